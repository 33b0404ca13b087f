"""Caches of transformers, made of tensors and taken apart again.

    cache.0.keys, cache.0.values                        DynamicCache: keys and values of each layer
    cache.0.conv_states, cache.0.recurrent_states       its layers of linear attention (Mamba)
    cache.0.keys, .values, .cumulative_length           layers of a StaticCache
    cache.self_attention_cache.0.keys, ...              EncoderDecoderCache
    cache.cross_attention_cache.0.keys, ...

What a model keeps in one is a state like any other: a tensor comes in, another one goes out.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

_HOME = "transformers.cache_utils"
_ATTENTION = ("keys", "values", "cumulative_length")
_LINEAR = ("conv_states", "recurrent_states")
HALVES = ("self_attention_cache", "cross_attention_cache")
"""What an encoder-decoder's cache has: one cache of its own steps, one of the encoder's."""


def _is_of(kind: Any, *names: str) -> bool:
    """True for a class of the package's caches, or one that a user derives from it."""
    mro = getattr(kind, "__mro__", ())
    return any(base.__module__ == _HOME and base.__name__ in names for base in mro)


def is_cache_class(kind: Any) -> bool:
    """True for ``Cache`` of transformers and all that derives from it."""
    return _is_of(kind, "Cache")


def are_layers(paths: Iterable[Sequence[str]]) -> bool:
    """True when names behind a parameter are those of a cache's layers: ``0.keys``."""
    layers = list(paths)
    known = {*_ATTENTION, *_LINEAR}
    return bool(layers) and all(
        len(path) == 2 and path[0].isdigit() and path[1] in known for path in layers
    )


def uses_transformers(called: Any) -> bool:
    """True when a method is of a module that has a part of transformers' own."""
    module = getattr(called, "__self__", None)
    parts = module.modules() if isinstance(module, nn.Module) else ()
    return any(
        base.__module__.startswith("transformers.") for part in parts for base in type(part).__mro__
    )


def dynamic_cache(**layers: Mapping[str, Tensor]) -> Any:
    """A cache of layers, each given by its number and its tensors.

    What a layer writes in place is copied first: its input stays its caller's.
    """
    home = importlib.import_module(_HOME)
    cache = home.DynamicCache()
    cache.layers = [_layer(home, layers[number]) for number in sorted(layers, key=int)]
    return cache


def encoder_decoder_cache(**halves: Any) -> Any:
    """A cache of two: of the decoder's own steps, and of what it knows of the encoder."""
    home = importlib.import_module(_HOME)
    own, cross = (halves.get(name) or home.DynamicCache() for name in HALVES)
    return home.EncoderDecoderCache(own, cross)


def _layer(home: Any, parts: Mapping[str, Tensor]) -> Any:
    if "cumulative_length" in parts:
        return _static_layer(home, parts)
    linear = [name for name in _LINEAR if name in parts]
    if linear and "keys" in parts:
        layer = home.LinearAttentionAndFullAttentionLayer()
    else:
        layer = home.LinearAttentionLayer() if linear else home.DynamicLayer()
    if "keys" in parts:
        layer.update(parts["keys"], parts["values"])
    for name in linear:
        value_copy = parts[name].clone()
        layer.lazy_initialization(**{name: value_copy})
        getattr(layer, name)[0] = value_copy
        layer.has_previous_state[0] = True
    return layer


def _static_layer(home: Any, parts: Mapping[str, Tensor]) -> Any:
    keys, values = parts["keys"].clone(), parts["values"].clone()
    layer = home.StaticLayer(max_cache_len=keys.shape[2])
    layer.dtype, layer.device = keys.dtype, keys.device
    layer.batch_size, layer.num_heads = keys.shape[:2]
    layer.k_head_dim, layer.v_head_dim = keys.shape[-1], values.shape[-1]
    layer.keys, layer.values = keys, values
    layer.cumulative_length = parts["cumulative_length"].clone()
    layer.is_initialized = True
    return layer


def cache_parts(value: Any) -> list[tuple[str, Any]] | None:
    """What a cache, or a layer of one, holds by name; None for anything else.

    What a layer does not have (yet) is left out.
    """
    kind = type(value)
    if _is_of(kind, "EncoderDecoderCache"):
        return [(name, getattr(value, name)) for name in HALVES]
    if _is_of(kind, "Cache"):
        return [(str(number), layer) for number, layer in enumerate(value.layers)]
    if not _is_of(kind, "CacheLayerMixin", "LinearAttentionCacheLayerMixin"):
        return None
    parts = []
    for name in (*_ATTENTION, *_LINEAR):
        tensors = getattr(value, name, None)
        if isinstance(tensors, Mapping):  # several states of one kind; most layers have one
            tensors = tensors.get(0) if len(tensors) == 1 else list(tensors.values())
        if isinstance(tensors, Tensor | list):
            parts.append((name, tensors))
    return parts
