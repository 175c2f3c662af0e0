"""Reports of runs: one self-contained HTML page. Needs the extra ``report``."""
