"""Scopes: which calls a budget is about, and the one way in which a scope is written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.errors import Rejected
from budget_bus.policy.scope import FIELDS, MAX_NAMES, Call, Scope, parse_scope


def call(**fields: Any) -> Call:
    given = {"component": "rhetor", "provider": "openai", "model": "gpt-4o", "tier": "remote_heavyweight"}
    return Call(**{**given, **fields})


@pytest.mark.parametrize(
    ("scope", "fields", "admitted"),
    [
        pytest.param({}, {}, True, id="an empty scope is everything"),
        pytest.param({"component": "rhetor"}, {}, True, id="a name admits itself"),
        pytest.param({"component": "rhetor"}, {"component": "Rhetor"}, False, id="names differ by case"),
        pytest.param({"component": "rhetor"}, {"component": "rhetor2"}, False, id="a name is not a prefix"),
        pytest.param({"component": ["hermes", "rhetor"]}, {}, True, id="a list admits any of its names"),
        pytest.param({"component": ["hermes", "apollo"]}, {}, False, id="a list admits no other name"),
        pytest.param({"component": {"not": ["hermes"]}}, {}, True, id="not admits every other name"),
        pytest.param({"component": {"not": ["hermes", "rhetor"]}}, {}, False, id="not admits none of its names"),
        pytest.param({"component": {"not": "rhetor"}}, {}, False, id="not may name just one"),
        pytest.param({"user": "ann"}, {}, False, id="a name does not admit an absent value"),
        pytest.param({"user": {"not": ["bot"]}}, {}, True, id="not admits an absent value: it is none of the names"),
        pytest.param({"component": "rhetor", "user": "ann"}, {"user": "bob"}, False, id="every rule must admit"),
        pytest.param({"component": "rhetor", "user": "ann"}, {"user": "ann"}, True, id="and every rule does"),
        pytest.param({"model": "gpt-4*"}, {}, True, id="a star in a model stands for the rest"),
        pytest.param({"model": "gpt-4*"}, {"model": "gpt-4"}, True, id="a star stands for nothing too"),
        pytest.param({"model": "*4o"}, {"model": "gpt-4o-mini"}, False, id="a pattern is the whole name"),
        pytest.param({"model": "g*4*o"}, {"model": "gpt-4.1-turbo"}, True, id="a pattern may have several stars"),
        pytest.param({"model": {"not": ["gpt-4*"]}}, {}, False, id="a negated pattern"),
        pytest.param({"model": ["o1", "gpt-4*"]}, {"model": "o1"}, True, id="names and patterns in one list"),
        pytest.param({"model": "gpt-4.1*"}, {"model": "gpt-4x1"}, False, id="a dot is a dot"),
        pytest.param({"model": "gpt-[45]*"}, {"model": "gpt-4"}, False, id="brackets are no set"),
        pytest.param({"model": "gpt-[45]*"}, {"model": "gpt-[45]o"}, True, id="brackets are brackets"),
        pytest.param({"model": "gpt-?*"}, {"model": "gpt-4"}, False, id="a question mark is no wildcard"),
        pytest.param({"model": r"a\*"}, {"model": r"a\b"}, True, id="a backslash is a backslash"),
        pytest.param({"model": "gpt-4(o|x)*"}, {"model": "gpt-4o"}, False, id="a group is no group"),
        pytest.param({"component": "rhe*"}, {}, False, id="a star outside of model is a star"),
        pytest.param({"component": "rhe*"}, {"component": "rhe*"}, True, id="and admits itself"),
        pytest.param({"tags": {"team": "red"}}, {"tags": (("team", "red"),)}, True, id="a tag admits its value"),
        pytest.param({"tags": {"team": "red"}}, {"tags": (("team", "blue"),)}, False, id="a tag admits no other value"),
        pytest.param({"tags": {"team": "red"}}, {}, False, id="an absent tag is not admitted"),
        pytest.param({"tags": {"team": {"not": ["red"]}}}, {}, True, id="a negated tag admits an absent one"),
        pytest.param({"tags": {"team": "r*"}}, {"tags": (("team", "red"),)}, False, id="a star in a tag is a star"),
        pytest.param(
            {"tags": {"team": "red", "env": "test"}}, {"tags": (("team", "red"),)}, False, id="every tag must admit"
        ),
        pytest.param({"tags": {}}, {}, True, id="no tags are no rule"),
    ],
)
def test_a_scope_admits(scope: dict[str, Any], fields: dict[str, Any], admitted: bool) -> None:
    assert parse_scope(scope).admits(call(**fields)) is admitted


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_of_a_call_can_be_asked_for(field: str) -> None:
    scope = parse_scope({field: "wanted"})
    assert scope.admits(call(**{field: "wanted"}))
    assert not scope.admits(call(**{field: "other"}))


@pytest.mark.parametrize(
    ("scope", "field"),
    [
        pytest.param(["rhetor"], "scope", id="a list is no scope"),
        pytest.param(None, "scope", id="null is no scope"),
        pytest.param({"team": "red"}, "scope.team", id="an unknown field"),
        pytest.param({"Component": "rhetor"}, "scope.Component", id="a field in another case"),
        pytest.param({"component": None}, "scope.component", id="null is no name"),
        pytest.param({"component": 7}, "scope.component", id="a number is no name"),
        pytest.param({"component": ""}, "scope.component", id="an empty name"),
        pytest.param({"component": []}, "scope.component", id="an empty list"),
        pytest.param({"component": ["rhetor", 7]}, "scope.component", id="a number in a list"),
        pytest.param({"component": ["x"] * (MAX_NAMES + 1)}, "scope.component", id="too many names"),
        pytest.param({"component": "x" * 201}, "scope.component", id="too long a name"),
        pytest.param({"component": "a\0b"}, "scope.component", id="a control character"),
        pytest.param({"component": {"not": []}}, "scope.component", id="not with nothing"),
        pytest.param({"component": {"not": [{"not": ["x"]}]}}, "scope.component", id="not of not"),
        pytest.param({"component": {"any": ["x"]}}, "scope.component", id="an unknown operator"),
        pytest.param({"component": {}}, "scope.component", id="no operator"),
        pytest.param({"component": {"not": ["x"], "any": ["y"]}}, "scope.component", id="two operators"),
        pytest.param({"tags": "red"}, "scope.tags", id="tags must be named"),
        pytest.param({"tags": {"team": 7}}, "scope.tags.team", id="a number as a tag's value"),
    ],
)
def test_a_wrong_scope_is_rejected_by_the_name_of_its_field(scope: Any, field: str) -> None:
    with pytest.raises(Rejected) as raised:
        parse_scope(scope)
    assert [error.field for error in raised.value.errors] == [field]


def test_an_unknown_field_is_told_which_there_are() -> None:
    with pytest.raises(Rejected, match="component, provider, model, tier, task_type, context_id, user or tags"):
        parse_scope({"team": "red"})


@pytest.mark.parametrize(
    ("scope", "spelling"),
    [
        pytest.param({"component": ["rhetor"]}, {"component": "rhetor"}, id="a list of one is its name"),
        pytest.param({"component": ["b", "a", "b"]}, {"component": ["a", "b"]}, id="sorted, each once"),
        pytest.param({"component": {"not": "a"}}, {"component": {"not": ["a"]}}, id="not always has a list"),
        pytest.param({"model": ["z", "a*"]}, {"model": ["a*", "z"]}, id="patterns stand among the names"),
        pytest.param({"tags": {}}, {}, id="no tags are not written"),
    ],
)
def test_equal_scopes_have_one_spelling(scope: dict[str, Any], spelling: dict[str, Any]) -> None:
    assert parse_scope(scope).to_json() == spelling


def test_the_order_of_fields_does_not_matter() -> None:
    one = parse_scope({"user": "u", "component": "c", "tags": {"b": "1", "a": "2"}}).to_json()
    other = parse_scope({"tags": {"a": "2", "b": "1"}, "component": "c", "user": "u"}).to_json()
    assert list(one) == list(other) == ["component", "user", "tags"]
    assert list(one["tags"]) == list(other["tags"]) == ["a", "b"]


# What a regular expression or a glob could take for more than a character comes often.
# They are stripped, as on the wire.
names = st.text(
    st.sampled_from(r"ab*.\[]?(){}|^$+-#&~ 4ß") | st.characters(categories=["L", "N"]), min_size=1, max_size=12
).filter(lambda name: name == name.strip())
rules = (
    names | st.lists(names, min_size=1, max_size=4) | st.lists(names, min_size=1, max_size=4).map(lambda x: {"not": x})
)
scopes = st.dictionaries(st.sampled_from(FIELDS), rules).flatmap(
    lambda fields: st.just(fields) | st.dictionaries(names, rules).map(lambda tags: {**fields, "tags": tags})
)


@given(scopes)
def test_what_is_written_is_read_back(raw: dict[str, Any]) -> None:
    scope = parse_scope(raw)
    again = parse_scope(scope.to_json())
    assert again == scope
    assert again.to_json() == scope.to_json()


@given(names.filter(lambda name: "*" not in name))
def test_a_name_without_a_star_admits_just_itself(name: str) -> None:
    scope = parse_scope({"model": name})
    assert scope.admits(call(model=name))
    assert not scope.admits(call(model=name + "x"))


def _matches(pattern: str, text: str) -> bool:
    """What a pattern means, said as plainly as possible."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_matches(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and text[0] == pattern[0] and _matches(pattern[1:], text[1:])


@given(st.text("ab.*", min_size=1, max_size=6), st.text("ab.*", min_size=1, max_size=6))
def test_a_star_is_the_only_wildcard(pattern: str, model: str) -> None:
    assert parse_scope({"model": pattern}).admits(call(model=model)) is _matches(pattern, model)


@given(scopes, st.fixed_dictionaries({"component": names, "model": names, "user": st.none() | names}))
def test_not_admits_what_its_names_do_not(raw: dict[str, Any], fields: dict[str, Any]) -> None:
    asked = call(**fields)
    for name, rule in raw.items():
        if name != "tags" and not isinstance(rule, dict):
            plain, negated = parse_scope({name: rule}), parse_scope({name: {"not": rule}})
            assert plain.admits(asked) is not negated.admits(asked)


def test_a_scope_of_nothing_is_the_default() -> None:
    assert parse_scope({}) == Scope()
    assert Scope().to_json() == {}
