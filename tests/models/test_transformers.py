"""Models of Hugging Face's transformers, unmodified, with random weights: outputs and gradients are the plain ones."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

import tacit
from tacit.errors import ConfigError, RevealError, TacitError
from tacit.nn import Transient

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


def masked_language_model():
    return transformers.BertForMaskedLM(transformers.BertConfig(**TEXT))


def token_classifier():
    return transformers.DistilBertForTokenClassification(
        transformers.DistilBertConfig(vocab_size=50, dim=32, n_layers=2, n_heads=4, hidden_dim=37, num_labels=50)
    )


def causal_model():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT, num_key_value_heads=2))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "make", [masked_language_model, token_classifier, causal_model], ids=lambda make: make.__name__
)
def test_words_masks_and_labels_may_be_secret(make, attention, session):
    model = make().eval()
    model.set_attn_implementation(attention)
    ignored = torch.tensor([[-100, 3, 4, -100, 9, 2, 1], [3, 2, -100, -100, 6, -100, -100]])
    inputs = {"input_ids": WORDS["input_ids"], "attention_mask": PADDED["attention_mask"] != 0, "labels": ignored}

    with torch.no_grad():
        want = model(**inputs)
        got = tacit.share(model)(**{name: tacit.share(x) for name, x in inputs.items()})

    kept = inputs["attention_mask"]
    torch.testing.assert_close(tacit.reveal(got.loss), want.loss, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(tacit.reveal(got.logits)[kept], want.logits[kept], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("make", [gpt2, llama], ids=lambda make: make.__name__)
def test_text_is_generated_from_a_secret_prompt(make, cache, session):
    model, _ = make()
    model.eval().generation_config.eos_token_id = None
    prompt = WORDS["input_ids"]
    options = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}

    with torch.no_grad():
        got = tacit.share(model).generate(tacit.share(prompt), use_cache=cache, **options)

    assert torch.equal(tacit.reveal(got), model.generate(prompt, **options))


def test_layers_may_be_shared_when_they_run(session):
    plain = llama()[0].eval()
    parts = copy.deepcopy(plain)
    for k in range(len(parts.model.layers)):
        parts.model.layers[k] = Transient(lambda k=k: plain.model.layers[k], owner="bob")
    words = torch.randint(plain.config.vocab_size, (1, 7))

    with torch.no_grad():
        secret = tacit.share(parts, owner="bob").eval()
        scores = tacit.reveal(secret(tacit.share(words, owner="alice")).logits)
        written = tacit.reveal(tacit.generate(secret, tacit.share(words, owner="alice"), max_new_tokens=3))
        wanted = plain(words).logits

    assert (scores - wanted).abs().max() < 2e-3 * wanted.abs().max()
    assert torch.equal(written, plain.generate(words, max_new_tokens=3, do_sample=False, eos_token_id=None))


def test_sentences_that_end_are_padded_as_the_library_pads_them(session):
    model, _ = gpt2()
    model.eval()
    for p in model.parameters():
        p.data *= 3  # words are not as likely as each other
    prompt, options = torch.randint(1, 50, (3, 5)), {"max_new_tokens": 6, "pad_token_id": 1}
    model.generation_config.eos_token_id = None
    free = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, **options)
    ends = [int(free[0, 6]), int(free[1, 8])]
    model.generation_config.eos_token_id = ends

    got = tacit.reveal(tacit.generate(tacit.share(model), tacit.share(prompt), **options))

    want = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, **options)
    assert got.shape == (3, 11)  # a public length
    assert torch.equal(got[:, : want.shape[1]], want)
    assert bool((got[:, want.shape[1] :] == 1).all())


def test_words_that_were_written_twice_are_penalised_once(session):
    torch.manual_seed(3)
    config = transformers.GPT2Config(vocab_size=6, n_positions=32, n_embd=8, n_layer=1, n_head=2, eos_token_id=None)
    model, prompt = transformers.GPT2LMHeadModel(config).eval(), torch.tensor([[1, 2, 3]])
    options = {"max_new_tokens": 4, "pad_token_id": 5, "repetition_penalty": 5.0}

    got = tacit.generate(tacit.share(model), tacit.share(prompt), **options)

    assert torch.equal(tacit.reveal(got), model.generate(prompt, do_sample=False, **options))


@pytest.mark.parametrize("make", [gpt2, llama], ids=lambda make: make.__name__)
def test_words_are_drawn_in_secret(make, session):
    model, _ = make()
    model.eval().generation_config.eos_token_id = None
    prompt = torch.randint(1, 50, (3, 5))
    shared, secret = tacit.share(model), tacit.share(prompt)

    likeliest = tacit.reveal(tacit.generate(shared, secret, max_new_tokens=4, do_sample=True, top_k=1))
    drawn = tacit.reveal(tacit.generate(shared, secret, max_new_tokens=4, do_sample=True, temperature=3.0, top_k=40))

    with torch.no_grad():
        scores = model(likeliest).logits[:, 4:-1]
    lost = scores.amax(-1) - scores.gather(-1, likeliest[:, 5:, None]).squeeze(-1)
    assert lost.max() < 1e-3  # of words as likely as each other rounding decides
    assert drawn.shape == (3, 9)
    assert bool(((drawn >= 0) & (drawn < 50)).all())
    assert not torch.equal(drawn, likeliest)  # 12 times the likeliest of 40 words: once in 10^15


def test_options_that_would_reveal_what_is_written_are_refused(session):
    model, _ = gpt2()
    shared, prompt = tacit.share(model.eval()), tacit.share(WORDS["input_ids"])

    for options in ({"num_beams": 2}, {"stop_strings": "a"}, {"min_new_tokens": 2}, {"max_time": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            tacit.generate(shared, prompt, max_new_tokens=2, **options)
    with pytest.raises(ConfigError, match="max_new_tokens"):
        tacit.generate(shared, prompt, max_new_tokens=0)
    with pytest.raises(ConfigError, match="transformers"):
        tacit.generate(nn.Linear(2, 2), prompt, max_new_tokens=2)


def test_what_cannot_be_done_says_what_can(session, tmp_path):
    model, _ = gpt2()
    shared, prompt = tacit.share(model.eval()), tacit.share(WORDS["input_ids"])
    options = {"attention_mask": torch.ones(2, 7), "pad_token_id": 0, "max_new_tokens": 2}

    with pytest.raises(RevealError, match="eos_token_id = None"), torch.no_grad():
        shared.generate(prompt, do_sample=False, **options)
    with pytest.raises(TacitError), torch.no_grad():
        shared.generate(prompt, num_beams=2, do_sample=False, **options)
    with pytest.raises(RevealError, match=r"tacit\.save"):
        shared.save_pretrained(tmp_path)
    with pytest.raises(RevealError, match=r"tacit\.save"):
        torch.save(shared.state_dict(), tmp_path / "weights")


def test_a_cache_of_plain_tensors_is_refused_and_left_out(session):
    config = transformers.MambaConfig(vocab_size=50, hidden_size=32, state_size=8, num_hidden_layers=1)
    model = transformers.MambaForCausalLM(config).eval()
    shared = tacit.share(model)

    with pytest.raises(TacitError, match="use_cache=False"), torch.no_grad():
        shared(**WORDS)
    with torch.no_grad():
        got = shared(**WORDS, use_cache=False).logits

    torch.testing.assert_close(tacit.reveal(got), model(**WORDS).logits, atol=2e-3, rtol=2e-3)


class LossTold(transformers.Trainer):
    def training_step(self, *args, **kwargs):
        return tacit.reveal(super().training_step(*args, **kwargs))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x=None, labels=None):
        logits = self.layer(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def test_a_trainer_that_reveals_its_loss_trains_as_a_plain_one_does(session, tmp_path):
    x, labels = torch.randn(16, 6), torch.arange(16) % 2
    settings = transformers.TrainingArguments(
        output_dir=tmp_path, optim="adamw_torch", save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True
    )
    model = Classifier()
    shared = tacit.share(model)

    for m, a, b in ((model, x, labels), (shared, tacit.share(x), tacit.share(labels))):
        rows = [{"x": row, "labels": label} for row, label in zip(a, b, strict=True)]
        (LossTold if m is shared else transformers.Trainer)(model=m, args=settings, train_dataset=rows).train()

    assert (tacit.reveal(shared.layer.weight) - model.layer.weight).abs().max() < 2e-4
    with pytest.raises(TacitError, match="reveal the loss in training_step"):
        transformers.Trainer(model=shared, args=settings, train_dataset=rows).train()
