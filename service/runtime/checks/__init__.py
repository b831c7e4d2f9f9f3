"""The checks of `boomerang doctor`: each finds one kind of fault of an installation, free of cost and of effects."""
