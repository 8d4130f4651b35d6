"""Which modules can be adapted."""


def check_module(model):
    pass
