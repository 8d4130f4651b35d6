"""The modules of the zoo by name."""

from zoo import (
    modules_layers,
    modules_models,
    modules_recomputed,
    modules_recurrent,
    modules_shared,
    modules_state,
)

ZOO = {
    **modules_shared.ZOO,
    **modules_recomputed.ZOO,
    **modules_state.ZOO,
    **modules_recurrent.ZOO,
    **modules_layers.ZOO,
    **modules_models.ZOO,
}
