"""`compare`: whether other patches help on a user's own data, in stages of one file each."""
