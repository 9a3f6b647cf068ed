"""What goes into one primitive of a model and what comes out of it, for the notebooks that rebuild it by hand."""

import torch


@torch.no_grad()
def passed(model, path, difference):
    """Evaluate a float or quantised model. -> first input and result of the primitive at this path: tensors, or
    `Codes`.

    difference: (window, context), counts minus anchor. AttributeError: the model has no such primitive.
    """
    caught = []
    primitive = model.get_submodule(path)
    hook = primitive.register_forward_hook(lambda module, inputs, result: caught.append((inputs[0], result)))
    model.eval()(difference)
    hook.remove()
    return caught[0]
