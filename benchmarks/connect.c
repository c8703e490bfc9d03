/* The floor for connect checks: an epoll loop that connects, resets and starts over.
 *
 *   connect ADDRESS PORT COUNT IN_FLIGHT [evidence]
 *
 * By itself it makes the fewest calls that tell open from closed. That is the floor, but it could
 * not say which device rejected a connection, from which port it was made, how long it took by the
 * kernel's clock, or whether a SYN was lost. With `evidence` it makes the calls that those take,
 * where the engine makes them: IP_RECVERR, getsockname and TCP_INFO for each, and the error queue
 * where no segment came. The ratio to that is what Python costs; the ratio to the first is what
 * Python and evidence cost.
 *
 * prints: connections a second, microseconds of CPU for each, how many were open.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in target;
static int poller, evidence;

static double wall(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void begin(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
  if (evidence) setsockopt(fd, SOL_IP, IP_RECVERR, &yes, sizeof yes);
  if (fd < 0 || (connect(fd, (struct sockaddr *)&target, sizeof target) && errno != EINPROGRESS)) {
    perror("connect");
    exit(1);
  }
  if (evidence) {
    struct sockaddr_in own;
    socklen_t size = sizeof own;
    getsockname(fd, (struct sockaddr *)&own, &size);
  }
  struct epoll_event event = {.events = EPOLLOUT | EPOLLET, .data.fd = fd};
  epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

/* Whether it is open, and all that the kernel says besides. */
static int look(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  if (!evidence) {
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return !error;
  }
  struct tcp_info info;
  socklen_t length = 144;
  getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length);
  if (info.tcpi_state != 7) return 1;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (!info.tcpi_segs_in) {
    char said[512];
    struct msghdr message = {.msg_control = said, .msg_controllen = sizeof said};
    recvmsg(fd, &message, MSG_ERRQUEUE);
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 5 && !(argc == 6 && !strcmp(argv[5], "evidence"))) return 2;
  evidence = argc == 6;
  long count = atol(argv[3]), started = 0, ended = 0, opened = 0;
  int in_flight = atoi(argv[4]);
  target.sin_family = AF_INET;
  target.sin_port = htons(atoi(argv[2]));
  inet_pton(AF_INET, argv[1], &target.sin_addr);
  poller = epoll_create1(0);
  struct epoll_event ready[256];
  struct linger reset = {1, 0};
  double began = wall(), worked = cpu();
  for (; started < in_flight && started < count; started++) begin();
  while (ended < count) {
    int n = epoll_wait(poller, ready, 256, -1);
    for (int i = 0; i < n; i++) {
      int fd = ready[i].data.fd;
      opened += look(fd);
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      close(fd);
      ended++;
      if (started < count) {
        begin();
        started++;
      }
    }
  }
  printf("%.0f %.2f %ld\n", count / (wall() - began), (cpu() - worked) * 1e6 / count, opened);
  return 0;
}
