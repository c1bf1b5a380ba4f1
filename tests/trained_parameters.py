"""The parameters of a model that are trained."""


def trained(model):
    """By name; an adapter's are the only ones where there is one."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
