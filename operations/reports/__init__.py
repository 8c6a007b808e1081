"""The report operation and its file formats."""
