"""From flows that fail to people who hear of it: one outage, one alert, with its cause.

`causes` finds the fewest causes that explain what fails, `lifecycle` makes alerts of them that
begin, change and end, `rules` says which are told to whom.
"""
