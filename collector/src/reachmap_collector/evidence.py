"""What both ends saw of a broken flow, as people and programs look at it: ready for JSON. Pure."""

from reachmap_collector.diagnose import is_passing, steps
from reachmap_collector.judge import Judgement
from reachmap_collector.views import Json, timestamp
from reachmap_shared.diagnosis import Hop, IcmpError, Recheck, Related, Sight, Testimony


def looked_into(judgement: Judgement) -> Json | None:
    """What both ends saw of a broken flow, as `explain` shows it; None if nobody looked yet."""
    if judgement.diagnosed is None:
        return None
    diagnosis, path = judgement.diagnosed.diagnosis, judgement.diagnosed.diagnosis.path
    compared = next((one for one in path.related if one.walk), None)
    return {
        "at": timestamp(judgement.diagnosed.at),
        "check": diagnosis.check,
        "local": path.local or None,
        "path": [_hop(hop) for hop in steps(path)],
        "compared": compared
        and {**_neighbour(compared), "path": [_hop(hop) for hop in compared.walk]},
        "related": [_neighbour(one) for one in path.related],
        "rechecks": [_recheck(one) for one in (path.first, path.last) if one is not None],
        "witness": {"silenced": diagnosis.silenced, **_told(diagnosis.testimony)},
        "sees_packets": path.sight.tap,
        "packets": _packets(path.sight),
        "others": diagnosis.others,
    }


def _neighbour(other: Related) -> Json:
    return {
        "relation": other.relation,
        "address": other.address,
        "port": other.port,
        "transport": other.transport,
        "outcome": other.outcome,
    }


def _hop(hop: Hop) -> Json:
    return {
        "hop": hop.ttl,
        "met": hop.met,
        "by": hop.by or None,
        "passes": is_passing(hop),
        "icmp": hop.icmp and _icmp(hop.icmp),
    }


def _recheck(seen: Recheck) -> Json:
    return {
        "outcome": seen.outcome,
        "met": seen.met,
        "ms": seen.met_ms,
        "icmp": seen.icmp and {**_icmp(seen.icmp), "by": seen.icmp.offender or None},
        "sent": seen.segments_out,
        "received": seen.segments_in,
    }


def _icmp(error: IcmpError) -> Json:
    return {"version": error.version, "type": error.type, "code": error.code}


def _told(testimony: Testimony | None) -> Json:
    if testimony is None:
        return {}
    return {
        "watched_ms": testimony.watched_ms,
        "has_address": testimony.is_local,
        "listens": testimony.listens,
        "holder": testimony.holder or None,
        "listener": testimony.listener,
        "connections": [{"state": row.state, "peer": row.peer} for row in testimony.rows],
        "sees_packets": testimony.sight.tap,
        "packets": _packets(testimony.sight),
        "back": [_hop(hop) for hop in testimony.back],
    }


def _packets(sight: Sight) -> list[Json]:
    """Those of the flow; strangers' are nobody's business."""
    return [
        {"kind": one.kind, "inbound": one.inbound, "peer": one.peer, "count": one.count}
        for one in sight.packets
        if one.ours
    ]
