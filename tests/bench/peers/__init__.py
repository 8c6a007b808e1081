"""What Semel is measured against: each peer as its users would write it in an afternoon."""
