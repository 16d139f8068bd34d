"""Named public data sets and corpora: their catalogue, files, checks and readers."""
