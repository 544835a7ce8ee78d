"""What is known of a whole run before its first stage is known by then, and a plan is told.

    rows      every local file is read, by the loader of the stage that will read it
    model     the model is fit for each stage, each stage's settings and adapters are possible
    work      how many rows, tokens and steps each stage has
    speed     how long a few real passes take here
    plan      the above, in order, told in a line for each stage

Stages that are up to date are left out. Only `rows` loads no heavy library.
"""
