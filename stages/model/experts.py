"""Adapters on the experts of a mixture, whose matrices transformers keeps in one parameter."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft.tuners.lora.layer import ParamWrapper, _LoraFactorsProxy, _LoraParameterProxy
from torch import nn
from torch.nn.utils.parametrize import is_parametrized
from transformers import PreTrainedModel

from stages.config.errors import UserError
from stages.config.params import Lora
from stages.model import stock
from stages.model.families import EXPERTS, OTHER_SENSES


def parameters(model: PreTrainedModel, lora: Lora) -> list[str]:
    """The names of the parameters that hold experts, if they are to be adapted.

    Raises:
        UserError: the adapter has dropout, which PEFT has not for parameters.
    """
    found = list(_parameters(model)) if lora.experts else []
    if found and lora.dropout:
        raise UserError(
            f"train.lora.dropout is {lora.dropout:g}, but experts that lie in one parameter, as "
            f"{found[0]}, are adapted without: set it to 0, or experts to false"
        )
    return found


def _parameters(model: PreTrainedModel) -> Iterator[str]:
    inside = {id(module) for module in stock.decoder_layers(stock.text_model(model)).modules()}
    for name, module in model.named_modules():
        experts = EXPERTS.search(name) or "Experts" in type(module).__name__
        if id(module) not in inside or not experts or OTHER_SENSES.search(name):
            continue
        if is_parametrized(module):
            yield from (f"{name}.{own}" for own in module.parametrizations)
        elif "parametrizations" not in name:
            yield from (f"{name}.{own}" for own in stock.stacked(name, module))


def let_adapt(model: nn.Module) -> None:
    """Let PEFT's adapters of parameters that are stored in 4 bits compute; see Stored4bit."""
    for name, module in list(model.named_modules()):
        outermost = isinstance(module, ParamWrapper) and not name.endswith("base_layer")
        if outermost and is_parametrized(module.get_base_layer()):
            model.set_submodule(name, _wrapped(module))


def _wrapped(outermost: ParamWrapper) -> ParamWrapper:
    """The same adapters around a module, one in the other as around one that is not quantised.

    PEFT takes those of quantised parameters by the alphabet, others as the module lists them. What
    is saved names an adapter by its place.
    """
    inside, wrappers = outermost, {}
    while isinstance(inside, ParamWrapper):
        wrappers[inside.parameter_name], inside = inside, inside.base_layer
    for name in inside.parametrizations:
        if name in wrappers:
            wrappers[name].__class__ = Stored4bit
            wrappers[name].base_layer, inside = inside, wrappers[name]
    return inside


class Stored4bit(ParamWrapper):
    """PEFT's adapter of a parameter that is stored in 4 bits.

    A pass adds the adapter's part to what is de-quantised, and takes it away at its end. PEFT 0.21
    does not find it there again, so that each pass would add one more.
    """

    @contextmanager
    def _activate_lora(self, active_adapters: list[str]) -> Iterator[None]:
        steps = self.get_base_layer().parametrizations[self.parameter_name]
        if self.num_experts > 1:
            steps.append(_LoraFactorsProxy(*self.get_delta_factors("default")))
        else:
            steps.append(_LoraParameterProxy(self.get_delta_weight("default")))
        try:
            yield
        finally:
            del steps[-1]
