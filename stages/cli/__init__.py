"""What the commands of `align` do (stages/command.py); `run` is the pipeline itself."""
