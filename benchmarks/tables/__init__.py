"""Tables of this repository's documents, rendered from the committed results."""
