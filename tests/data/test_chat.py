"""The chat format against the golden file, its Jinja twin, its inverse, and the loss mask it implies."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers import decoders as token_decoders
from transformers import PreTrainedTokenizerFast

from data.chat import (
    EMPTY_BLOCK,
    IM_END,
    SPECIAL_TOKENS,
    STOP_SENTENCE,
    STOP_THINKING,
    Conversation,
    last_flag,
    parse,
    parse_completion,
    render,
    strip_flags,
    training_row,
    unroll,
)
from data.records import UserError
from tests.data.byte_tokenizer import byte_tokenizer

GOLDEN_PATH = Path(__file__).parents[1] / "golden" / "qwen3-chat-golden.jsonl"
GOLDEN = [json.loads(line) for line in GOLDEN_PATH.read_text(encoding="utf-8").splitlines()]
TOKENIZER = byte_tokenizer()
HARD_SWITCH = {"add_generation_prompt": True, "enable_thinking": False}
CALCULATOR = {"type": "function", "function": {"name": "calculator", "parameters": {"type": "object"}}}


def user(content: str) -> dict:
    return {"role": "user", "content": content}


def assistant(content: str, **fields) -> dict:
    return {"role": "assistant", "content": content, **fields}


def call(name: str, arguments) -> dict:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def apply_template(messages, **kwargs) -> str:
    return TOKENIZER.apply_chat_template(messages, tokenize=False, **kwargs)


# Text that meets the format's own tags, newlines and non-ASCII, for the comparison with the template.
fragments = st.sampled_from(
    [
        "\n",
        "\n\n",
        " ",
        "<think>",
        "</think>",
        "<tool_response>",
        "</tool_response>",
        "<tool_call>",
        "/think",
        "é°",
        "x",
        '"',
    ]
)
wild_text = st.lists(fragments, max_size=7).map("".join)
plain_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)
arguments = st.dictionaries(st.text(max_size=4), json_values, max_size=2)
names = st.text("abc_", min_size=1, max_size=4)
calls = st.lists(st.builds(call, names, arguments), max_size=2)
tool_lists = st.none() | st.lists(
    st.builds(lambda name: {"type": "function", "function": {"name": name}}, names), max_size=2
)


@st.composite
def wild_conversations(draw):
    messages = []
    for role in draw(
        st.lists(st.sampled_from(["system", "user", "user", "assistant", "assistant", "tool"]), min_size=1, max_size=7)
    ):
        message = {"role": role, "content": draw(wild_text | st.none() | st.just([{"type": "text", "text": "t"}]))}
        if role == "assistant":
            message["content"] = draw(wild_text | st.none())
            if draw(st.booleans()):
                message["reasoning_content"] = draw(wild_text | st.none())
            if draw(st.booleans()):
                message["tool_calls"] = draw(st.lists(st.builds(call, names, arguments | plain_text), max_size=2))
        messages.append(message)
    return messages


@st.composite
def canonical_conversations(draw):
    """Conversations of which rendering drops nothing, in the form in which `parse` gives them back."""
    messages = [{"role": "system", "content": draw(plain_text)}] if draw(st.booleans()) else []
    num_queries = draw(st.integers(1, 3))
    for query in range(num_queries):
        messages.append(user(draw(plain_text)))
        num_hops = draw(st.integers(0, 2))
        for hop in range(num_hops + 1):
            message = assistant(draw(plain_text))
            if query == num_queries - 1:
                reasoning = draw(plain_text).strip("\n")
                is_last = hop == num_hops
                if reasoning or is_last:
                    message["reasoning_content"] = reasoning
                    message["content"] = message["content"].lstrip("\n")
            if made := draw(calls):
                message["tool_calls"] = made
            messages.append(message)
            if hop < num_hops:
                messages += [{"role": "tool", "content": draw(plain_text)} for _ in range(draw(st.integers(1, 2)))]
    return messages


# --- rendering --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", GOLDEN, ids=lambda line: line["name"])
def test_golden_conversations_render_byte_for_byte(line):
    assert render(line["messages"], tools=line["tools"], **line["kwargs"]) == line["rendered"]
    assert apply_template(line["messages"], tools=line["tools"], **line["kwargs"]) == line["rendered"]


@settings(max_examples=300, deadline=None)
@given(wild_conversations(), tool_lists, st.booleans(), st.sampled_from([None, True, False]))
def test_template_and_renderer_agree_on_any_conversation(messages, tools, add_generation_prompt, enable_thinking):
    kwargs = {"add_generation_prompt": add_generation_prompt, "enable_thinking": enable_thinking}
    assert apply_template(messages, tools=tools, **kwargs) == render(messages, tools=tools, **kwargs)


def test_history_loses_reasoning_but_the_current_tool_loop_keeps_it():
    messages = [user("q"), assistant("a", reasoning_content="old"), user("r")]
    messages += [assistant("b", reasoning_content="kept"), {"role": "tool", "content": "t"}, assistant("c")]
    rendered = render(messages)
    assert "old" not in rendered
    assert "<think>\nkept\n</think>\n\nb<|im_end|>" in rendered
    assert rendered.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\nc<|im_end|>\n")


def test_wrapped_tool_result_in_a_user_turn_is_not_a_query():
    wrapped = user("<tool_response>\n4\n</tool_response>")
    assert "R" in render([user("q"), assistant("a", reasoning_content="R"), wrapped])
    assert "R" not in render([user("q"), assistant("a", reasoning_content="R"), user("4")])


def test_string_arguments_pass_verbatim_and_calls_follow_content_on_a_new_line():
    message = assistant("text", tool_calls=[call("f", '{"a":1}'), {"name": "g", "arguments": {"é": [1, 2]}}])
    expected = (
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\ntext\n"
        '<tool_call>\n{"name": "f", "arguments": {"a":1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g", "arguments": {"é": [1, 2]}}\n</tool_call><|im_end|>\n'
    )
    assert render([user("q"), message]) == expected
    assert apply_template([user("q"), message]) == expected


def test_enable_thinking_true_and_unset_give_the_same_open_prompt():
    prompts = [render([user("q")], add_generation_prompt=True, enable_thinking=mode) for mode in (None, True, False)]
    assert prompts[0] == prompts[1] == prompts[2].removesuffix(EMPTY_BLOCK)
    assert prompts[2] == prompts[0] + "<think>\n\n</think>\n\n"


def test_list_content_renders_empty():
    assert render([user([{"type": "text", "text": "hi"}])]) == "<|im_start|>user\n<|im_end|>\n"  # type: ignore[arg-type]


def test_unknown_role_is_refused_by_renderer_and_template():
    with pytest.raises(UserError, match=r"messages\[0\]\.role: 'human' is not one of"):
        render([{"role": "human", "content": "q"}])
    with pytest.raises(TemplateError, match="human"):
        apply_template([{"role": "human", "content": "q"}])


@pytest.mark.parametrize(
    ("messages", "tools", "field"),
    [
        ([], None, "messages: empty"),
        ([user("q")], [{"name": object()}], r"tools\[0\]"),
        ([user("q"), assistant("", tool_calls=[{"name": "f"}])], None, r"tool_calls\[0\]"),
        ([user("q"), assistant("", tool_calls=[call("f", {"x": object()})])], None, r"tool_calls\[0\]\.arguments"),
    ],
)
def test_bad_conversations_are_refused_in_one_line_that_names_the_field(messages, tools, field):
    with pytest.raises(UserError, match=f"^{field}") as caught:
        render(messages, tools=tools)
    assert "\n" not in str(caught.value)


# --- parsing ----------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(canonical_conversations(), tool_lists, st.sampled_from([{}, {"add_generation_prompt": True}, HARD_SWITCH]))
def test_parse_inverts_render(messages, tools, prompt):
    conversation = parse(render(messages, tools=tools, **prompt))
    assert conversation == Conversation(tuple(messages), tuple(tools) if tools else None, **prompt)


@pytest.mark.parametrize("line", GOLDEN, ids=lambda line: line["name"])
def test_golden_text_survives_parse_and_render(line):
    found = parse(line["rendered"])
    kwargs = {"add_generation_prompt": found.add_generation_prompt, "enable_thinking": found.enable_thinking}
    assert kwargs == {"add_generation_prompt": False, "enable_thinking": None} | line["kwargs"]
    assert render(found.messages, tools=found.tools, **kwargs) == line["rendered"]
    assert [m["role"] for m in found.messages] == [m["role"] for m in line["messages"]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "<|im_start|>user\nq",
        "lead<|im_start|>user\nq<|im_end|>\n",
        "<|im_start|>human\nq<|im_end|>\n",
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<tool_call>\n5\n</tool_call><|im_end|>\n",
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{]\n</tool_call><|im_end|>\n",
    ],
)
def test_text_that_no_conversation_renders_to_is_refused(text):
    with pytest.raises(UserError, match="is not a rendered conversation"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "block", "reasoning", "answer"),
    [
        ("4", "none", None, "4"),
        ("", "none", None, ""),
        ("<think>\n\n</think>\n\n4<|im_end|>", "empty", "", "4"),
        ("<think>\nR\n</think>\n\n4<|im_end|><|endoftext|>", "closed", "R", "4"),
        ("<think>\nR\n</think>", "closed", "R", ""),
        ("<think>\nthe answer is \\boxed{4}", "unclosed", "the answer is \\boxed{4}", ""),
        ("<think>\na <think> b", "unclosed", "a <think> b", ""),
        ("R</think>4", "malformed", "R", "4"),
        ("well <think>R</think>4", "malformed", "well <think>R", "4"),
        ("\n<think>R</think>4", "malformed", "\n<think>R", "4"),
        ("well <think>R", "malformed", "well <think>R", ""),
        ("<think>a</think>3<think>b</think>4", "malformed", "<think>a</think>3<think>b", "4"),
        ("<think>a</think>3<think>b", "malformed", "<think>a</think>3<think>b", ""),
        ("<think>a</think>3 </think>", "malformed", "<think>a</think>3 ", ""),
    ],
)
def test_completion_is_classified_and_the_answer_never_comes_from_inside_the_reasoning(text, block, reasoning, answer):
    parsed = parse_completion(text)
    assert (parsed.block, parsed.reasoning, parsed.answer) == (block, reasoning, answer)


@pytest.mark.parametrize(
    ("text", "block", "answer"),
    [("4<|im_end|>", "none", "4"), ("<think>\n\n</think>\n\n4", "malformed", "4"), ("<think>\n4", "malformed", "")],
)
def test_any_tag_after_a_prefilled_block_is_malformed(text, block, answer):
    parsed = parse_completion(text, prefilled=True)
    assert (parsed.block, parsed.answer) == (block, answer)


@settings(max_examples=200, deadline=None)
@given(wild_text, st.booleans())
def test_no_text_breaks_the_completion_parser_and_open_reasoning_never_answers(text, prefilled):
    parsed = parse_completion(text, prefilled=prefilled)
    if "<think>" in text.rpartition("</think>")[2]:
        assert parsed.answer == ""
    assert "<think>" not in parsed.answer
    assert "</think>" not in parsed.answer


@given(plain_text, plain_text)
def test_a_rendered_answer_parses_back_into_reasoning_and_answer(reasoning, answer):
    message = assistant(answer, reasoning_content=reasoning)
    completion = render([user("q"), message]).partition("assistant\n")[2].removesuffix("\n")
    parsed = parse_completion(completion)
    assert parsed.block == ("closed" if reasoning.strip() else "empty")
    assert parsed.answer == answer.lstrip("\n")
    assert parsed.reasoning == (reasoning.strip("\n") if reasoning.strip() else "")


def block_of(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


@pytest.mark.parametrize(
    ("answer", "num_calls", "num_malformed"),
    [
        (block_of('{"name": "f", "arguments": {"a": 1}}'), 1, 0),
        (
            "text\n" + block_of('{"name": "f", "arguments": {}}') + "\n" + block_of('{"arguments": {}, "name": "g"}'),
            2,
            0,
        ),
        (block_of('{"name": "f", "arguments": "{}"}'), 0, 1),
        (block_of('{"name": "f"}'), 0, 1),
        (block_of('{"name": 1, "arguments": {}}'), 0, 1),
        (block_of('{"name": "f", "arguments": {}, "extra": 1}'), 0, 1),
        (block_of('{"name": "f", "arguments": {"a": NaN}}'), 0, 1),
        (block_of("[" * 100_000), 0, 1),
        (block_of('{"name": "f", "arguments": {"a": ' + "9" * 5000 + "}}"), 0, 1),
        (block_of("{'name': 'f'}") + block_of('{"name": "f", "arguments": {}}'), 1, 1),
        ("<tool_call>\n" + '{"name": "f", "arguments": {}}', 0, 1),
        ("</tool_call>" + block_of('{"name": "f", "arguments": {}}') + "</tool_call>", 1, 2),
        ("no call", 0, 0),
    ],
)
def test_tool_calls_are_read_strictly_and_broken_ones_counted(answer, num_calls, num_malformed):
    parsed = parse_completion(f"<think>\nuse it\n</think>\n\n{answer}")
    assert (len(parsed.tool_calls), parsed.malformed_calls) == (num_calls, num_malformed)
    assert parsed.answer == answer


def test_tool_calls_inside_the_reasoning_are_not_made():
    parsed = parse_completion("<think>\n" + block_of('{"name": "f", "arguments": {}}') + "\n</think>\n\ndone")
    assert parsed.tool_calls == ()


def test_reading_many_unclosed_calls_takes_linear_time():
    started_s = time.perf_counter()
    assert parse_completion("<tool_call>" * 100_000).malformed_calls == 100_000
    assert time.perf_counter() - started_s < 2.0


# --- flags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("2+2? /think", "think"),
        ("2+2? /no_think", "no_think"),
        ("/no_think 2+2?", "no_think"),
        ("/no_think then /think.", "think"),
        ("(/think) or /no_think!", "no_think"),
        ("请回答/no_think", "no_think"),
        ("open path/thinker", None),
        ("/thinking", None),
        ("see a/think and /think/b and //think", None),
        ("write </think> or <think>", None),
        ("/no_thinking, /NO_THINK, /think_2, /think-aloud", None),
        ("", None),
    ],
)
def test_flags_are_whole_words_and_the_last_one_counts(text, flag):
    assert last_flag([user(text)]) == flag


def test_later_messages_win_and_only_queries_and_system_messages_are_read():
    system = {"role": "system", "content": "/no_think"}
    assert last_flag([system, user("q")]) == "no_think"
    assert last_flag([system, user("q /think")]) == "think"
    assert last_flag([user("q /think"), assistant("say /no_think"), user("r")]) == "think"
    assert last_flag([user("q /think"), {"role": "tool", "content": "/no_think"}]) == "think"
    assert last_flag([user("q /think"), user("<tool_response>\n/no_think\n</tool_response>")]) == "think"
    assert last_flag([]) is None


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("2+2? /think", "2+2?"),
        ("/no_think 2+2?", "2+2?"),
        ("a /think b /no_think\n", "a b\n"),
        ("/think /no_think a", "a"),
        ("  keep  ", "  keep  "),
        ("path/thinker /thinking", "path/thinker /thinking"),
        ("/think", ""),
    ],
)
def test_stripping_removes_flags_with_their_blanks_and_nothing_else(text, stripped):
    assert strip_flags(text) == stripped


@given(st.lists(st.sampled_from(["/think", "/no_think", " ", "\n", "/", "<", "x", "-", "."]), max_size=10).map("".join))
def test_stripped_text_holds_no_flag(text):
    assert last_flag([user(strip_flags(text))]) is None


# --- supervised rows --------------------------------------------------------------------------------------------------


def unmasked_text(row) -> str:
    return TOKENIZER.decode([i for i, mask in zip(row.token_ids, row.loss_mask, strict=True) if mask])


SHAPES = {  # pitfall: templating a message on its own loses its reasoning; each shape must keep reasoning and answer
    "reasoning field": (
        [user("2+2? /think"), assistant("4", reasoning_content="2 and 2")],
        "<think>\n2 and 2\n</think>\n\n4",
    ),
    "think text in content": (
        [user("2+2?"), assistant("<think>\n2 and 2\n</think>\n\n4")],
        "<think>\n2 and 2\n</think>\n\n4",
    ),
    "no-think": ([user("2+2? /no_think"), assistant("4")], "<think>\n\n</think>\n\n4"),
    "later turn": (
        [user("a"), assistant("b", reasoning_content="old"), user("c /think"), assistant("d", reasoning_content="new")],
        "<think>\nnew\n</think>\n\nd",
    ),
    "tool call": (
        [user("17*23?"), assistant("", reasoning_content="use it", tool_calls=[call("calculator", {"x": "17*23"})])],
        '<think>\nuse it\n</think>\n\n<tool_call>\n{"name": "calculator", "arguments": {"x": "17*23"}}\n</tool_call>',
    ),
    "after a tool result": (
        [
            user("17*23?"),
            assistant("", tool_calls=[call("c", {})]),
            {"role": "tool", "content": "391"},
            assistant("391"),
        ],
        "<think>\n\n</think>\n\n391",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_tokens_with_loss_decode_to_block_and_answer_and_end(shape):
    messages, completion = SHAPES[shape]
    row = training_row(TOKENIZER, messages, tools=[CALCULATOR])
    assert unmasked_text(row) == completion + "<|im_end|>"
    prompt = render(messages[:-1], tools=[CALCULATOR], add_generation_prompt=True)
    num_prompt = row.loss_mask.index(1)
    assert row.token_ids[:num_prompt] == tuple(TOKENIZER.encode(prompt, add_special_tokens=False))
    assert row.loss_mask == (0,) * num_prompt + (1,) * (len(row.token_ids) - num_prompt)
    assert TOKENIZER.decode(row.token_ids) + "\n" == render(messages, tools=[CALCULATOR])


def test_end_of_turn_is_in_the_loss_exactly_once_even_when_it_is_the_padding_token():
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = IM_END
    messages = [user("a"), assistant("b"), user("c"), assistant("d")]
    row = training_row(tokenizer, messages)
    im_end_id = tokenizer.convert_tokens_to_ids(IM_END)
    with_loss = [i for i, mask in zip(row.token_ids, row.loss_mask, strict=True) if mask]
    assert row.token_ids.count(im_end_id) == 4
    assert with_loss.count(im_end_id) == 1
    assert with_loss[-1] == im_end_id


def test_think_tag_is_trained_when_the_model_must_write_it_and_not_when_the_prompt_holds_it():
    messages = [user("2+2? /no_think"), assistant("4")]
    think_id = TOKENIZER.convert_tokens_to_ids("<think>")

    def mask_of_tag(enable_thinking):
        row = training_row(TOKENIZER, messages, enable_thinking=enable_thinking)
        return row.loss_mask[row.token_ids.index(think_id)]

    assert [mask_of_tag(mode) for mode in (None, True, False)] == [1, 1, 0]


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with GPT-2's splitting rule, under which "\\n\\n" alone and before text are split differently."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = token_decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["a\n\n", "b\n\n", "the answer\n\n", "  indented"], trainer)
    tokenizer.add_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize("make_tokenizer", [byte_tokenizer, merging_tokenizer])
@pytest.mark.parametrize("answer", ["4", "the answer", "  indented", "\nline", " "])
def test_no_think_row_and_hard_switch_prompt_agree_token_for_token(make_tokenizer, answer):
    tokenizer = make_tokenizer()
    messages = [user("2+2? /no_think"), assistant(answer, tool_calls=[call("f", {})])]
    generated = training_row(tokenizer, messages)
    prefilled = training_row(tokenizer, messages, enable_thinking=False)
    hard_prompt = render(messages[:1], add_generation_prompt=True, enable_thinking=False)
    hard_prompt_ids = tuple(tokenizer.encode(hard_prompt, add_special_tokens=False))
    assert generated.token_ids == prefilled.token_ids
    assert prefilled.token_ids[: len(hard_prompt_ids)] == hard_prompt_ids
    assert prefilled.loss_mask.index(1) == len(hard_prompt_ids)
    assert sum(generated.loss_mask) - sum(prefilled.loss_mask) == len(tokenizer.encode(EMPTY_BLOCK))


@settings(max_examples=100, deadline=None)
@given(canonical_conversations())
def test_every_unrolled_turn_is_rendered_as_at_inference(messages):
    for prefix in unroll(messages):
        if not prefix[-1]["content"].strip() and not prefix[-1].get("tool_calls"):
            continue
        row = training_row(TOKENIZER, prefix)
        assert TOKENIZER.decode(row.token_ids) + "\n" == render(prefix)


def test_unroll_gives_one_prefix_per_assistant_turn():
    messages = [user("a"), assistant("b"), user("c"), assistant("d"), user("e")]
    assert unroll(messages) == [tuple(messages[:2]), tuple(messages[:4])]


@pytest.mark.parametrize(
    ("messages", "enable_thinking", "error"),
    [
        ([user("q")], None, "must end with one assistant turn"),
        ([assistant("a")], None, "must end with one assistant turn"),
        ([user("q"), assistant("a"), assistant("b")], None, "must end with one assistant turn"),
        ([user("q"), assistant("4", reasoning_content="R")], False, "prefills an empty block"),
        ([user("q"), assistant("<think>R</think>4")], False, "prefills an empty block"),
        ([user("q"), assistant("<think>R")], None, "think tags outside"),
        ([user("q"), assistant("say <think>R</think>4")], None, "think tags outside"),
        ([user("q"), assistant("<think>a</think>3<think>b</think>4")], None, "think tags outside"),
        ([user("q"), assistant("<think>a</think>4", reasoning_content="R")], None, "think tags outside"),
        ([user("q"), assistant("", reasoning_content="R")], None, "neither answer nor tool call"),
        ([user([{"type": "text", "text": "q"}]), assistant("4")], None, r"messages\[0\]\.content: list"),  # type: ignore[arg-type]
        ([user("q"), assistant("4<|im_end|>")], None, "holds <|im_end|> itself"),
    ],
)
def test_rows_that_would_lose_or_displace_text_are_refused(messages, enable_thinking, error):
    with pytest.raises(UserError, match=error.replace("|", r"\|")):
        training_row(TOKENIZER, messages, enable_thinking=enable_thinking)


def test_tokenizer_without_chat_tokens_is_refused():
    alphabet = {symbol: index for index, symbol in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab=alphabet, merges=[])))
    with pytest.raises(UserError, match="add_chat_tokens"):
        training_row(bare, [user("q"), assistant("4")])


def test_tags_survive_decoding_without_special_tokens_and_turn_markers_do_not():
    ids = TOKENIZER.encode("<|im_start|><think>a</think><tool_call><|im_end|><|endoftext|>", add_special_tokens=False)
    assert len(ids) == 7
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == "<think>a</think><tool_call>"


def test_budget_sentence_is_the_documented_protocol_byte_for_byte():
    assert STOP_SENTENCE == (
        "Considering the limited time by the user, I have to give the solution based on the thinking directly now."
    )
    assert STOP_THINKING == "\n\n" + STOP_SENTENCE + "\n</think>\n\n"


def test_text_cut_off_by_the_budget_sentence_is_a_closed_block_in_template_form():
    completion = "<think>\nfirst, 2 and 2" + STOP_THINKING + "4"
    parsed = parse_completion(completion)
    assert (parsed.block, parsed.answer) == ("closed", "4")
    message = assistant("4", reasoning_content=parsed.reasoning)
    assert completion + IM_END == unmasked_text(training_row(TOKENIZER, [user("2+2?"), message]))
