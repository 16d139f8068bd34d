"""From scores of time steps to patch starts: routers, rules, rates and surprise."""
