"""Models of FunASR, tiny, with random weights."""

from __future__ import annotations

import funasr  # noqa: F401 - registers the classes
from funasr.models.branchformer.encoder import BranchformerEncoder
from funasr.models.campplus.model import CAMPPlus
from funasr.models.conformer.encoder import ConformerEncoder as UpstreamConformer
from funasr.models.ct_transformer.model import CTTransformer
from funasr.models.e_branchformer.encoder import EBranchformerEncoder
from funasr.models.fsmn_vad_streaming.encoder import FSMN
from funasr.models.paraformer.cif_predictor import CifPredictorV2
from funasr.models.sanm.encoder import SANMEncoder
from funasr.models.transformer.encoder import TransformerEncoder
from torch import Tensor, nn

_SIZES = {"output_size": 32, "attention_heads": 4, "num_blocks": 2}


class Encoder(nn.Module):
    """Any encoder of features and their lengths."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, x_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``[B, T, 16]``."""
        found = self.inner(x, x_lengths)
        return found[0], found[1]


def ConformerEncoder() -> nn.Module:  # noqa: N802
    """Conformer with relative positions."""
    return Encoder(UpstreamConformer(16, linear_units=48, cnn_module_kernel=5, **_SIZES))


def EBranchformer() -> nn.Module:  # noqa: N802
    """E-Branchformer."""
    return Encoder(
        EBranchformerEncoder(
            16, linear_units=48, cgmlp_linear_units=64, cgmlp_conv_kernel=5, **_SIZES
        )
    )


def Branchformer() -> nn.Module:  # noqa: N802
    """Branchformer."""
    return Encoder(BranchformerEncoder(16, cgmlp_linear_units=64, cgmlp_conv_kernel=5, **_SIZES))


def Sanm() -> nn.Module:  # noqa: N802
    """The encoder of Paraformer."""
    return Encoder(SANMEncoder(16, linear_units=48, input_layer="pe", kernel_size=5, **_SIZES))


def Transformer() -> nn.Module:  # noqa: N802
    """The plain encoder."""
    return Encoder(TransformerEncoder(16, linear_units=48, **_SIZES))


class CtTransformer(nn.Module):
    """Punctuation of text."""

    def __init__(self):
        super().__init__()
        self.inner = CTTransformer(
            encoder="SANMEncoder",
            encoder_conf={
                "input_size": 16, "output_size": 32, "attention_heads": 4, "linear_units": 48,
                "num_blocks": 2, "input_layer": "pe", "kernel_size": 5,
            },
            vocab_size=40, punc_list=["a", "b", "c", "d"], punc_weight=[1.0] * 4, embed_unit=16,
            att_unit=32,
        )  # fmt: skip

    def forward(self, text: Tensor, text_lengths: Tensor) -> Tensor:
        """Tokens ``[B, T]``."""
        return self.inner.punc_forward(text, text_lengths)[0]


def CamPlus() -> nn.Module:  # noqa: N802
    """CAM++, speaker embeddings."""
    return CAMPPlus(
        feat_dim=16, embedding_size=12, growth_rate=4, init_channels=8, memory_efficient=False
    )


def Fsmn() -> nn.Module:  # noqa: N802
    """The network of FSMN-VAD, without a cache."""

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = FSMN(16, 12, 2, 16, 8, 3, 0, 1, 0, 12, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x, {})

    return Whole()


class Cif(nn.Module):
    """Continuous integrate and fire, as Paraformer's predictor has it."""

    def __init__(self):
        super().__init__()
        self.inner = CifPredictorV2(16, 1, 1, tail_threshold=0.45)

    def forward(self, hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encodings ``[B, T, 16]`` and their mask ``[B, 1, T]``."""
        acoustic, count, *_ = self.inner(hidden, mask=mask)
        return acoustic, count


def Emotion2vec() -> nn.Module:  # noqa: N802
    """emotion2vec: data2vec 2.0 of a waveform."""
    from funasr.models.emotion2vec.model import Emotion2vec as Upstream

    audio = {
        "type": "AUDIO", "prenet_depth": 1, "prenet_layerdrop": 0, "prenet_dropout": 0.0,
        "start_drop_path_rate": 0.0, "end_drop_path_rate": 0.0, "num_extra_tokens": 2,
        "init_extra_token_zero": True, "mask_noise_std": 0.01, "mask_prob_min": None,
        "mask_prob": 0.0, "inverse_mask": False, "mask_prob_adjust": 0.0, "keep_masked_pct": 0.0,
        "mask_length": 5, "add_masks": False, "remove_masks": False, "mask_dropout": 0.0,
        "encoder_zero_mask": True, "mask_channel_prob": 0.0, "mask_channel_length": 64,
        "ema_local_encoder": False, "local_grad_mult": 1.0, "use_alibi_encoder": True,
        "alibi_scale": 1.0, "learned_alibi": False, "alibi_max_pos": None,
        "learned_alibi_scale": True, "learned_alibi_scale_per_head": True,
        "learned_alibi_scale_per_layer": False, "num_alibi_heads": 4,
        "model_depth": 2, "extractor_mode": "layer_norm",
        "feature_encoder_spec": "[(16, 10, 5), (16, 8, 4)]", "conv_pos_width": 15,
        "conv_pos_groups": 2, "conv_pos_depth": 1, "conv_pos_pre_ln": False, "decoder": None,
    }  # fmt: skip
    conf = {
        "loss_beta": 0, "depth": 1, "start_drop_path_rate": 0.0, "end_drop_path_rate": 0.0,
        "num_heads": 4, "norm_eps": 1e-5, "norm_affine": True, "encoder_dropout": 0.0,
        "post_mlp_drop": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
        "dropout_input": 0.0, "layerdrop": 0.0, "embed_dim": 32, "mlp_ratio": 2.0,
        "layer_norm_first": False, "average_top_k_layers": 1, "end_of_block_targets": False,
        "clone_batch": 1, "layer_norm_target_layer": False, "modalities": {"audio": audio},
        "supported_modality": "AUDIO", "cls_loss": 0, "d2v_loss": 1,
    }  # fmt: skip
    model = Upstream(model_conf=conf, vocab_size=-1)

    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, source: Tensor) -> Tensor:
            return self.inner.extract_features(source, mask=False, remove_extra_tokens=True)["x"]

    return Features()
