"""Transformers made from a configuration, with the attention and the checkpointing that people switch on."""

import pytest
import torch
from torch import nn
from transformers import (
    BatchEncoding,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

import fastadapt as fa
from foreign.by_hand import (
    Case,
    adapted,
    apart,
    every_number,
    exact,
    falls_on_support,
    first_order,
    or_a_sentence,
    reptile,
)

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
both_attentions = pytest.mark.parametrize("attention", ["eager", "sdpa"])


def made(kind, config, attention="eager"):
    """Return the model in float64 and training mode; its own start is so small that steps would be hard to see."""
    config._attn_implementation = attention
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)  # a twin has the same weights
        model = kind(config).double().train()
        for p in model.parameters():
            p += 0.2 * torch.randn_like(p)
    return model


def bert(attention="eager"):
    config = BertConfig(vocab_size=30, max_position_embeddings=16, num_labels=3, **SMALL, **NO_DROPOUT)
    return made(BertForSequenceClassification, config, attention)


def gpt2(attention="eager"):
    config = GPT2Config(
        vocab_size=20, n_positions=8, n_embd=8, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    return made(GPT2LMHeadModel, config, attention)


def llama(attention="eager"):
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16,
        use_cache=False,
    )
    return made(LlamaForCausalLM, config, attention)


def vit(attention="eager"):
    config = ViTConfig(image_size=8, patch_size=4, num_channels=1, num_labels=3, **SMALL, **NO_DROPOUT)
    return made(ViTForImageClassification, config, attention)


def sentences(count=2, n=4):
    def batch():
        mask = torch.ones(n, 6, dtype=torch.long)
        mask[1, 4:] = 0
        return {"input_ids": torch.randint(30, (n, 6)), "attention_mask": mask, "labels": torch.arange(n) % 3}

    return [fa.Task(batch(), batch()) for _ in range(count)]


def texts(count=2, n=3):
    def batch():
        ids = torch.randint(20, (n, 6))
        return {"input_ids": ids, "labels": ids}

    return [fa.Task(batch(), batch()) for _ in range(count)]


def pictures(count=2, n=4, size=8):
    def batch():
        return {"pixel_values": torch.randn(n, 1, size, size), "labels": torch.arange(n) % 3}

    return [fa.Task(batch(), batch()) for _ in range(count)]


def own_loss(model, batch):
    """The model computes its own loss, as its documentation has it."""
    return model(**batch).loss


def next_token(model, batch):
    """The same for texts in float64: theirs rounds the logits to float32."""
    ids = batch["input_ids"]
    return nn.functional.cross_entropy(model(input_ids=ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


FINE = {"apart": 1e-8}
ROUNDED = {"apart": 1e-3, "h": 1e-3}  # float32 inside, whatever the weights are
MODELS = {
    "bert": (bert, own_loss, sentences, FINE),
    "gpt2": (gpt2, next_token, texts, FINE),
    "gpt2 with its own loss": (gpt2, own_loss, texts, ROUNDED),
    "llama": (llama, own_loss, texts, ROUNDED),
    "vit": (vit, own_loss, pictures, {"apart": 1e-6, "h": 1e-3}),
}


@every_number
@both_attentions
@pytest.mark.parametrize("kind", MODELS)
def test_models_with_their_own_loss(kind, attention, number):
    model, loss, tasks, how = MODELS[kind]
    # by hand always with plain attention: the fast kernels have no second derivative
    number(Case(model(attention), loss, tasks(), rate=0.05, twin=model("eager"), **how))


@every_number
def test_residual_network_with_batch_norm(number):
    config = ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    config.hidden_act = "silu"
    model = made(ResNetForImageClassification, config)
    number(Case(model, own_loss, pictures(size=16), rate=0.05, apart=1e-7))


@both_attentions
def test_logits_in_a_loss_of_ones_own(attention):
    def loss(model, batch):
        out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        return nn.functional.cross_entropy(out.logits, batch["labels"])

    first_order(Case(bert(attention), loss, sentences(), rate=0.05, apart=1e-7))


def test_the_trace_falls():
    falls_on_support(Case(gpt2(), own_loss, texts(), rate=0.02))


def test_a_batch_encoding_is_a_batch():
    tasks = sentences()
    encoded = [fa.Task(BatchEncoding(t.support), BatchEncoding(t.query)) for t in tasks]
    with or_a_sentence():
        first_order(Case(bert(), own_loss, encoded, rate=0.05, twin_tasks=tasks, apart=1e-7))


@pytest.mark.parametrize("number", [exact, first_order, reptile])
@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_checkpointed_layers_see_the_adapted_values(kind, number):
    model, loss, tasks, how = MODELS[kind]
    checkpointed = model()
    checkpointed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    number(Case(checkpointed, loss, tasks(), rate=0.05, twin=model(), **how))


@pytest.mark.parametrize("number", [exact, first_order, reptile])
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_reentrant_checkpoints_are_right_or_refused(kind, number):
    model, loss, tasks, how = MODELS[kind]
    checkpointed = model()
    checkpointed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    with or_a_sentence("reentrant", "checkpoint"):
        number(Case(checkpointed, loss, tasks(), rate=0.05, twin=model(), **how))


@pytest.mark.parametrize("reentrant", [False, True])
def test_adapting_a_checkpointed_model(reentrant):
    checkpointed = bert()
    checkpointed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    with or_a_sentence("reentrant", "checkpoint"):
        adapted(Case(checkpointed, own_loss, sentences(), rate=0.05, twin=bert(), apart=1e-7))


@pytest.mark.parametrize("number", [exact, first_order, adapted])
def test_only_the_head_adapts(number):
    number(
        Case(
            bert("sdpa"),
            own_loss,
            sentences(),
            rate=0.2,
            adapt="classifier*",
            chosen=lambda name: name.startswith("classifier"),
            twin=bert("eager"),
            apart=1e-7,
        )
    )


def test_a_frozen_body_stays():
    model = bert()
    model.bert.requires_grad_(False)
    case = Case(model, own_loss, sentences(), rate=0.2, apart=1e-7)
    exact(case)
    adapted(case)


def test_predictor_is_asked_as_the_model_is():
    case = Case(bert(), own_loss, sentences(), rate=0.05)
    support, query = case.tasks[0].support, case.tasks[0].query
    predictor = case.learner().adapt(support)
    got, want = predictor(**query).logits, case.other.descended(support, case.steps)(**query).logits
    assert apart([got.detach()], [want.detach()]) < 1e-8


def test_generation_from_the_adapted_model():
    """The adapted network is the predictor's `model`, an ordinary one with all its methods."""
    case = Case(gpt2(), own_loss, texts(), rate=0.05)
    support = case.tasks[0].support
    prompt = torch.tensor([[1, 2, 3]])
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(prompt)}
    got = case.learner().adapt(support).model.generate(prompt, **options)
    want = case.other.descended(support, case.steps).eval().generate(prompt, **options)
    assert torch.equal(got, want)
