"""Models of Hugging Face's transformers, unmodified, with random weights: outputs and gradients are the plain ones."""

from __future__ import annotations

import warnings

import pytest
import torch

import tacit

warnings.simplefilter("ignore")  # of the library's own making, while it is imported
transformers = pytest.importorskip("transformers", reason="pip install tacit[models]")

pytestmark = pytest.mark.slow

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
TEXT = {"vocab_size": 50, **SIZES}
WORDS = {"input_ids": torch.arange(14).view(2, 7)}
PADDED = {**WORDS, "attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2])}


def bert():
    return transformers.BertForSequenceClassification(transformers.BertConfig(**TEXT)), PADDED


def bert_of_secret_embeddings():
    return transformers.BertModel(transformers.BertConfig(**TEXT)), {"inputs_embeds": torch.randn(2, 7, 32)}


def roberta():
    return transformers.RobertaModel(transformers.RobertaConfig(**TEXT)), WORDS


def distilbert():
    sizes = {"vocab_size": 50, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 37}
    return transformers.DistilBertModel(transformers.DistilBertConfig(**sizes)), PADDED


def gpt2():
    sizes = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)), PADDED


def llama():
    config = transformers.LlamaConfig(**TEXT, num_key_value_heads=2)
    return transformers.LlamaForCausalLM(config), WORDS


def t5():
    sizes = {"vocab_size": 50, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}
    return transformers.T5EncoderModel(transformers.T5Config(**sizes)), WORDS


def vit():
    config = transformers.ViTConfig(image_size=32, patch_size=8, **SIZES)
    return transformers.ViTForImageClassification(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


def resnet():
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return transformers.ResNetForImageClassification(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


def wav2vec2():
    layers = {"conv_dim": (16, 16, 16), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3)}
    positions = {"num_feat_extract_layers": 3, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    config = transformers.Wav2Vec2Config(vocab_size=20, **layers, **positions, **SIZES)
    return transformers.Wav2Vec2ForCTC(config), {"input_values": torch.randn(2, 800)}


SCALE = 64
"""Of a loss: the small gradients of random weights would vanish in fixed point, as they would in half precision."""

MODELS = (bert, bert_of_secret_embeddings, roberta, distilbert, gpt2, llama, t5, vit, resnet, wav2vec2)


def secretly(inputs):
    """Numbers are secret; which words they are and which of them are padding is public."""
    return {name: tacit.share(x) if x.is_floating_point() else x for name, x in inputs.items()}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_models_give_the_plain_output(make, attention, session):
    model, inputs = make()
    model.eval()
    if make is not resnet:
        model.set_attn_implementation(attention)

    with torch.no_grad():
        want = model(**inputs)[0]
        got = tacit.reveal(tacit.share(model)(**secretly(inputs))[0])

    torch.testing.assert_close(got, want, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("make", [vit, bert_of_secret_embeddings, llama], ids=lambda make: make.__name__)
def test_models_have_the_plain_gradients(make, session):
    model, inputs = make()
    model.eval()
    shared = tacit.share(model)

    for m, given in ((model, inputs), (shared, secretly(inputs))):
        (SCALE * m(**given)[0].square().sum()).backward()

    for got, want in zip(shared.parameters(), model.parameters(), strict=True):
        if want.grad is not None:
            assert (tacit.reveal(got.grad) - want.grad).norm() <= 2e-3 * SCALE + 5e-3 * want.grad.norm()
