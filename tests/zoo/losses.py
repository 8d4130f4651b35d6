"""The losses of the zoo by name."""

from zoo import losses_models, losses_outputs

ZOO = {**losses_outputs.ZOO, **losses_models.ZOO}
