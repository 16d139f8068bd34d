"""Named public data sets and corpora: where they are, what they must be, how they are read."""
