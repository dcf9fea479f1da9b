"""Chronos models of a few hundred random weights, in folders as from_pretrained reads them."""

import torch
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.config import Chronos2CoreConfig
from chronos.chronos_bolt import ChronosBoltModelForForecasting
from transformers import T5Config, T5ForConditionalGeneration
from transformers.utils import logging

SMALL = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
SPECIAL = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
CONTEXT = {"context_length": 64}
PATCHES = {"input_patch_size": 8, "input_patch_stride": 8, "use_reg_token": True}
SEED = 3
"""Weights whose quantiles are about as symmetric as those of a trained model."""

TENTHS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def bolt():
    chosen = CONTEXT | PATCHES | {"prediction_length": 16, "quantiles": TENTHS}
    names = {"chronos_pipeline_class": "ChronosBoltPipeline", "chronos_config": chosen}
    config = T5Config(**SMALL, **SPECIAL, vocab_size=2, num_decoder_layers=1, feed_forward_proj="relu", **names)
    return ChronosBoltModelForForecasting(config)


def chronos2():
    levels = [0.01, 0.05, *TENTHS, 0.95, 0.99]
    chosen = CONTEXT | PATCHES | {"output_patch_size": 8, "quantiles": levels, "max_output_patches": 4}
    chosen |= {"use_arcsinh": True, "time_encoding_scale": 64}
    return Chronos2Model(Chronos2CoreConfig(**SMALL, chronos_pipeline_class="Chronos2Pipeline", chronos_config=chosen))


def paths():
    """The first Chronos: tokens, sampled one after the other."""
    tokens = {"n_tokens": 64, "n_special_tokens": 2, "pad_token_id": 0, "eos_token_id": 1, "use_eos_token": True}
    tokenizer = {"tokenizer_class": "MeanScaleUniformBins", "tokenizer_kwargs": {"low_limit": -15, "high_limit": 15}}
    sampling = {"num_samples": 20, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "prediction_length": 16}
    chosen = CONTEXT | tokens | tokenizer | sampling | {"model_type": "seq2seq"}
    names = {"chronos_pipeline_class": "ChronosPipeline", "chronos_config": chosen}
    return T5ForConditionalGeneration(T5Config(**SMALL, **SPECIAL, vocab_size=64, num_decoder_layers=1, **names))


def saved(build, folder):
    """The folder of a new model."""
    logging.disable_progress_bar()
    torch.manual_seed(SEED)
    build().save_pretrained(folder)
    return folder
