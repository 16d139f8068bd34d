"""`compare` answers whether another way of patching helps on a user's own data."""
