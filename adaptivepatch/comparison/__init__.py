"""`compare`: does another way of patching help on a user's own data?"""
