"""`python -m langgraph_checkpoint_redis.cli`, for where scripts are not on the PATH."""

from . import main

main()
