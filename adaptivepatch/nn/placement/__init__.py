"""Choice of patch starts from scores of time steps: networks, routers, rules and losses."""
