"""A run on disk: its configuration, the presets, its folder and the files of predictors."""
