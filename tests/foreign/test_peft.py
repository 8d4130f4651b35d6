"""Low-rank adapters of peft: the inner loop adapts them alone, the rest stays as it was trained."""

import pytest
import torch
from peft import IA3Config, LoraConfig, TaskType, get_peft_model, get_peft_model_state_dict

import fastadapt as fa
from fastadapt.nets import with_lora
from foreign.by_hand import Case, adapted, apart, every_number, exact, first_order, reptile
from foreign.test_transformers import bert, gpt2, next_token, own_loss, sentences, texts


def lora(base, **options):
    settings = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "init_lora_weights": False, **options}
    return wrapped(base, LoraConfig(**settings))


def wrapped(base, settings):
    with torch.random.fork_rng():
        torch.manual_seed(9)  # a twin has the same weights
        return get_peft_model(base, settings).double().train()


def is_lora(name):
    return "lora" in name


def classifier(attention="eager"):
    return lora(bert(attention), task_type=TaskType.SEQ_CLS, target_modules=["query", "value"])


@every_number
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_adapters_of_a_classifier(attention, number):
    # its classifier is trained too, by the outer loop alone
    number(
        Case(
            classifier(attention),
            own_loss,
            sentences(),
            rate=0.2,
            adapt="*lora*",
            chosen=is_lora,
            twin=classifier("eager"),
            apart=1e-7,
        )
    )


@every_number
def test_adapters_of_a_language_model(number):
    model = lora(gpt2(), task_type=TaskType.CAUSAL_LM, target_modules=["c_attn"], fan_in_fan_out=True)
    number(Case(model, next_token, texts(), rate=0.2, adapt="*lora*", chosen=is_lora, apart=1e-7))


@pytest.mark.parametrize("number", [exact, first_order])
def test_weight_decomposed_adapters(number):
    model = lora(bert(), task_type=TaskType.SEQ_CLS, target_modules=["query"], use_dora=True)
    # it takes the norm of the weights as a constant
    number(Case(model, own_loss, sentences(), rate=0.1, adapt="*lora*", chosen=is_lora, apart=1e-7, detaches=True))


@pytest.mark.parametrize("number", [exact, first_order])
def test_learned_scales(number):
    settings = IA3Config(
        task_type=TaskType.SEQ_CLS, target_modules=["query"], feedforward_modules=[], init_ia3_weights=False
    )
    number(
        Case(
            wrapped(bert(), settings),
            own_loss,
            sentences(),
            rate=0.1,
            adapt="*ia3*",
            chosen=lambda name: "ia3" in name,
            apart=1e-7,
        )
    )


@pytest.mark.parametrize("number", [exact, first_order])
def test_adapters_under_checkpointing(number):
    model = classifier()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    number(Case(model, own_loss, sentences(), rate=0.2, adapt="*lora*", chosen=is_lora, twin=classifier(), apart=1e-7))


def test_what_is_frozen_is_not_moved():
    model = classifier()
    case = Case(model, own_loss, sentences(), rate=0.2, adapt="*lora*", chosen=is_lora)
    predictor = case.learner().adapt(case.tasks[0].support)
    moved = {
        n for (n, p), q in zip(model.named_parameters(), predictor.parameters(), strict=True) if not torch.equal(p, q)
    }
    assert moved == {n for n, _ in model.named_parameters() if is_lora(n)}


def test_only_the_adapters_are_saved():
    case = Case(classifier(), own_loss, sentences(), rate=0.2, adapt="*lora*", chosen=is_lora, apart=1e-7)
    support = case.tasks[0].support
    got = get_peft_model_state_dict(case.learner().adapt(support).model)
    want = get_peft_model_state_dict(case.other.descended(support, case.steps))
    assert list(got) == list(want)
    assert apart(list(got.values()), list(want.values())) < 1e-8


def test_two_adapters_the_active_one_adapts():
    model = classifier()
    model.add_adapter(
        "second", LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["query"], init_lora_weights=False)
    )
    model.double().set_adapter("second")
    case = Case(model, own_loss, sentences(), rate=0.2, adapt="*lora*", chosen=is_lora, apart=1e-7)
    exact(case)
    adapted(case)


def test_its_factors_are_selected_by_name_and_saved_alone(tmp_path):
    model = classifier()
    assert fa.select(model, "lora") == tuple(n for n, p in model.named_parameters() if p.requires_grad and is_lora(n))
    case = Case(model, own_loss, sentences(), rate=0.2, adapt="lora", chosen=is_lora, apart=1e-7)
    exact(case)
    first_order(case)
    reptile(case)
    predictor, batch = case.learner().adapt(case.tasks[0].support), case.tasks[1].query
    again = fa.load_predictor(fa.save_predictor(predictor, tmp_path / "adapted", only="lora"), model=model)
    assert torch.equal(again(**batch).logits, predictor(**batch).logits)
    assert not torch.equal(again(**batch).logits, model(**batch).logits)


def test_factors_of_ours_in_a_model_whose_layers_are_transposed():
    plain, batch = gpt2(), texts()[0].support
    with torch.random.fork_rng():
        torch.manual_seed(9)
        model = with_lora(gpt2(), 2, "*.c_attn", alpha=4)
        twin = lora(gpt2(), task_type=TaskType.CAUSAL_LM, target_modules=["c_attn"], fan_in_fan_out=True)
    assert torch.equal(model(**batch).logits, plain(**batch).logits)
    with torch.no_grad():  # the factors of peft's, which begins elsewhere
        theirs = [p for n, p in twin.named_parameters() if is_lora(n)]
        for p, q in zip([p for n, p in model.named_parameters() if is_lora(n)], theirs, strict=True):
            p.copy_(q)
    torch.testing.assert_close(model(**batch).logits, twin(**batch).logits)
    case = Case(model, next_token, texts(), rate=0.2, adapt="lora", chosen=is_lora, twin=twin, apart=1e-7)
    exact(case)
    first_order(case)
