"""``python -m crrl_fast``."""

from crrl_fast.cli import main

main()
