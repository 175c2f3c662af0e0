"""Readers: one file for each foreign format, each turning files into clips."""
