"""A judge behind a chat API: what it is asked, what becomes of each kind of answer, and what is kept."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from allfour.errors import ClassifierError
from allfour.models._hosted.connection import Service
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers._judge.desk import NOT_ASKED
from allfour.models.classifiers._judge.logprobs import Token, answer_probabilities
from allfour.models.classifiers._judge.question import INSTRUCTIONS, make_question
from allfour.models.classifiers._judge.reading import MalformedError, combined, read_people
from allfour.models.classifiers.base import AskedPeople, KeepsAccounts, PersonScores, Reading, Unread
from allfour.models.classifiers.judge import JudgeClassifier, JudgeConfig
from tests.loopback_chat_server import BLUE, GREEN, GREY, KEY, MODEL, RED, LoopbackChatServer, solid
from tests.loopback_image_server import Asked, Fault

ASKED = AttributeSet.model_validate(
    {
        "attributes": {
            "gender": {"labels": {"woman": ["a woman", "a lady"], "man": ["a man"]}},
            "age": {"labels": {"20-29": ["20-29"], "30-39": ["30-39"], "over 40": ["an older person"]}},
        }
    }
)
ONE = AttributeSet.model_validate({"attributes": {"gender": {"labels": {"woman": ["a woman"], "man": ["a man"]}}}})
WOMAN = {"gender": {"woman": 1.0, "man": 0.0}}
MAN = {"gender": {"woman": 0.0, "man": 1.0}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackChatServer]:
    monkeypatch.setenv("ALLFOUR_TEST_KEY", KEY)
    with LoopbackChatServer() as running:
        yield running


def make(server: LoopbackChatServer, attributes: AttributeSet = ONE, **settings: Any) -> JudgeClassifier:
    block = {"backend": "judge", "model": MODEL, "base_url": server.base_url, "api_key_env": "ALLFOUR_TEST_KEY"}
    return JudgeConfig.model_validate(block | {"timeout": 5.0, "max_retries": 2} | settings).build(
        attributes=attributes
    )


def read(judge: JudgeClassifier, *colours: tuple[int, int, int]) -> list[Reading]:
    """What is said of pictures of these colours, in their order."""
    images = [solid(colour, number) for number, colour in enumerate(colours)]
    names = [hashlib.sha256(data).hexdigest() for data in images]
    prepared = ((name, judge.prepare(Image.open(io.BytesIO(data)))) for name, data in zip(names, images, strict=True))
    found = dict(judge.read(prepared))
    assert set(found) == set(names)
    return [found[name] for name in names]


def graded(reading: Reading) -> list[dict[str, Any]]:
    assert not isinstance(reading, Unread), reading
    return [dict(person.probabilities) for person in reading]


def why(reading: Reading) -> str:
    assert isinstance(reading, Unread)
    return reading.reason


def attempts(ledger: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(ledger) as database:
        return database.execute("SELECT state, count(*) FROM attempts GROUP BY state ORDER BY state").fetchall()


# --- what is asked -----------------------------------------------------------------------------------------------------


def test_the_question_is_closed_and_in_the_words_of_the_attributes_file(server: LoopbackChatServer) -> None:
    judge = make(server, ASKED, detail="low", extra_body={"seed": 7})
    assert isinstance(judge, AskedPeople)
    assert isinstance(judge, KeepsAccounts)
    assert graded(read(judge, RED)[0]) == [WOMAN | {"age": {"20-29": 1.0, "30-39": 0.0, "over 40": 0.0}}]
    body = server.asked[0].body
    text, picture = body["messages"][0]["content"]
    assert text["text"].startswith(INSTRUCTIONS)
    assert '- gender: "woman" (a woman; a lady), "man" (a man), or "cannot tell"' in text["text"]
    assert '- age: "20-29", "30-39", "over 40" (an older person), or "cannot tell"' in text["text"]
    assert "perceived presentation" in text["text"]
    assert picture["image_url"]["detail"] == "low"
    person = body["response_format"]["json_schema"]["schema"]["properties"]["people"]["items"]
    assert person["properties"]["gender"]["enum"] == ["woman", "man", "cannot tell"]
    assert person["required"] == ["gender", "age"]
    assert (body["seed"], body["temperature"], body["max_tokens"]) == (7, 0.0, 1500)
    assert "presence" not in text["text"]


def test_an_image_is_made_small_enough_and_no_larger(server: LoopbackChatServer) -> None:
    judge = make(server, max_side=100)
    for size, expected in (((400, 200), (100, 50)), ((20, 90), (20, 90)), ((5000, 3), (100, 1))):
        assert Image.open(io.BytesIO(judge.prepare(Image.new("RGB", size)))).size == expected


def test_identity_follows_the_question_and_not_the_price(server: LoopbackChatServer) -> None:
    identity = make(server).identity()
    assert make(server, price_per_answer=1.0, max_cost=2.0, concurrency=9).identity() == identity
    for other in (
        make(server, instructions="Look."),
        make(server, ASKED),
        make(server, max_people=3),
        make(server, max_side=512),
        make(server, repeats=2, temperature=1.0),
        make(server, logprobs=0),
        make(server, extra_body={"top_p": 0.5}),
    ):
        assert other.identity() != identity
    assert KEY not in json.dumps(identity)
    json.dumps(identity)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": 3}, "at temperature 0, 3 answers are the same answer paid for 3 times"),
        ({"max_cost": 1.0}, r"classifier\.max_cost: set price_per_answer too"),
        ({"base_url": "http://user:pass@127.0.0.1/v1"}, r"classifier\.base_url: leave out credentials"),
        ({"extra_body": {"messages": []}}, r"classifier\.extra_body: messages cannot be set here"),
        ({"extra_headers": {"api-key": "secret"}}, "Put it into an environment variable"),
    ],
)
def test_settings_that_cannot_be(server: LoopbackChatServer, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ClassifierError, ValidationError), match=message):
        make(server, **settings)


def test_a_label_may_not_be_the_answer_that_is_none() -> None:
    attributes = AttributeSet.model_validate({"attributes": {"gender": {"labels": {"x": ["x"], "Cannot tell": ["y"]}}}})
    with pytest.raises(ClassifierError, match="gender cannot have a label of that name"):
        make_question(attributes, instructions="x", max_people=1)


# --- what is answered --------------------------------------------------------------------------------------------------


def test_people_nobody_and_cannot_tell(server: LoopbackChatServer) -> None:
    woman, man, nobody, unsure = read(make(server), RED, BLUE, GREEN, GREY)
    assert (graded(woman), graded(man), graded(nobody), graded(unsure)) == ([WOMAN], [MAN], [], [{}])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("I cannot help with identifying people.", "it holds no JSON: 'I cannot help"),
        ('{"people": [{"gender": "wom', "it holds no JSON"),
        ('{"persons": []}', "no list 'people'"),
        (
            '{"people": [{"gender": "female"}]}',
            "for person 0 it says 'female' of gender, which is not one of woman, man, cannot tell",
        ),
        ('{"people": [{"sex": "woman"}]}', "does not say gender"),
        ('{"people": ["woman"]}', "person 0 is not an object"),
        ('{"people": [{"gender": ["woman"]}]}', "not one of woman"),
        (json.dumps({"people": [{"gender": "woman"}] * 4}), "describes 4 people, and at most 3 were asked for"),
        ("[" * 100_000, "it holds no JSON"),
        ("", "it is empty"),
        ({"message": {"content": None, "refusal": "I will not."}}, r"the judge declined \(refusal\): I will not"),
        ({"message": {"content": None}, "finish_reason": "content_filter"}, "the judge declined"),
        (
            {"message": {"content": '{"people": [{"gen'}, "finish_reason": "length"},
            r"cut off; raise classifier\.max_tokens",
        ),
        (f'{{"people": "{KEY} \\ud800"}}', "no list 'people'"),
    ],
)
def test_what_is_no_answer_is_a_reason_and_is_not_asked_again(
    server: LoopbackChatServer, tmp_path: Path, answer: Any, message: str
) -> None:
    server.reply = lambda asked, text: answer
    ledger = tmp_path / "answers.sqlite"
    for _ in range(2):
        judge = make(server, max_people=3)
        judge.keep_accounts(ledger)
        (found,) = read(judge, RED)
        assert isinstance(found, Unread)
        assert not found.again
        assert re.search(message, found.reason), found.reason
        assert KEY not in found.reason
    assert len(server.asked) == 1
    assert attempts(ledger) == [("answered", 1)]
    assert KEY.encode() not in ledger.read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"people": [{"gender": "Woman"}]}\n```',
        'Here it is: {"note": {}} {"people": [{"gender": "woman", "hair": "red"}]} I hope that helps {',
        '<think>{"people": []} or is it</think>\n{"people": [{"gender": "A woman"}]}',
        [{"type": "text", "text": '{"people": [{"gender": "woman"}]}'}],
    ],
)
def test_json_is_found_in_what_stands_around_it(server: LoopbackChatServer, text: Any) -> None:
    server.reply = lambda asked, _: {"message": {"content": text}}
    assert graded(read(make(server), RED)[0]) == [WOMAN]


def test_several_people_are_persons_from_left_to_right(server: LoopbackChatServer) -> None:
    server.reply = lambda asked, text: '{"people": [{"gender": "man"}, {"gender": "woman"}, {"gender": "cannot tell"}]}'
    assert graded(read(make(server), RED)[0]) == [MAN, WOMAN, {}]


def test_a_policy_refuses_one_image_and_not_the_run(server: LoopbackChatServer, tmp_path: Path) -> None:
    server.plan = lambda asked: Fault("moderation") if asked.number == 1 else None
    judge = make(server, concurrency=1)
    judge.keep_accounts(tmp_path / "a.sqlite")
    first, second = read(judge, RED, BLUE)
    assert why(first).startswith("the judge declined (moderation_blocked): ")
    assert graded(second) == [MAN]
    assert graded(read(judge, RED, BLUE)[1]) == [MAN]
    assert len(server.asked) == 2


# --- probabilities -------------------------------------------------------------------------------------------------------


def test_probabilities_come_from_logprobs(server: LoopbackChatServer) -> None:
    server.logprobs = lambda label: 0.9
    judge = make(server, ASKED)
    (person,) = graded(read(judge, RED)[0])
    # of 0.9 for the label the others share 0.1; `cannot tell` is left aside and the labels are scaled
    assert person["gender"] == pytest.approx({"woman": 0.9 / 0.95, "man": 0.05 / 0.95})
    assert person["age"]["20-29"] == pytest.approx(0.9 / (0.9 + 0.2 / 3))
    assert server.asked[0].body["top_logprobs"] == 5
    server.logprobs = lambda label: 0.4  # of which `cannot tell` has 0.3
    assert graded(read(judge, BLUE)[0])[0]["gender"]["man"] == pytest.approx(0.4 / 0.7)


def test_a_label_that_begins_like_another_is_followed_to_where_they_part() -> None:
    text = '{"age": "20-29"}'

    def token(word: str, p: float, *others: tuple[str, float]) -> Token:
        from math import log

        return Token(word.encode(), log(p), tuple((o.encode(), log(q)) for o, q in ((word, p), *others)))

    options = ("20-29", "2-9", "30-39", "cannot tell")
    tokens = [
        token('{"age": "', 1.0),
        token("2", 0.8, ("3", 0.1), ("\n", 0.1)),
        token("0-", 0.75, ("-", 0.25)),
        token('29"}', 1.0),
    ]
    found = answer_probabilities(tokens, text, 9, options)
    assert found == pytest.approx({"20-29": 0.6 / 0.9, "2-9": 0.2 / 0.9, "30-39": 0.1 / 0.9, "cannot tell": 0.0})
    glued = [token('{"age":', 1.0), token(' "20', 0.6, (' "30', 0.2), ("\n", 0.2)), token('-29"}', 1.0)]
    assert answer_probabilities(glued, text, 9, options) == pytest.approx(
        {"20-29": 0.75, "2-9": 0.0, "30-39": 0.25, "cannot tell": 0.0}
    )
    assert answer_probabilities([token("something else", 1.0)], text, 9, options) is None
    assert answer_probabilities([token('{"age": "', 1.0), token("zz", 1.0)], text, 9, options) is None


def test_logprobs_of_another_text_or_damaged_ones_are_left_aside(server: LoopbackChatServer) -> None:
    for logprobs in (
        {"content": [{"token": "x", "logprob": -0.1}]},
        {"content": [{"token": "x", "logprob": "a"}]},
        {"content": "x"},
        [],
        "x",
        None,
    ):
        server.reply = lambda asked, text, given=logprobs: {"message": {"content": text}, "logprobs": given}
        assert graded(read(make(server), RED)[0]) == [WOMAN]


def test_repeated_answers_are_averaged_person_by_person(server: LoopbackChatServer, tmp_path: Path) -> None:
    answers = ["woman", "woman", "man", "cannot tell", "woman"]
    server.reply = lambda asked, text: json.dumps({"people": [{"gender": answers[asked.attempt - 1]}]})
    judge = make(server, repeats=5, temperature=1.0, concurrency=1)
    judge.keep_accounts(tmp_path / "a.sqlite")
    assert graded(read(judge, RED)[0])[0]["gender"] == pytest.approx({"woman": 0.75, "man": 0.25})
    assert (len(server.asked), judge.account()["answers"]) == (5, 5)


def test_answers_that_differ_in_how_many_people_there_are() -> None:
    woman = {"gender": {"woman": 1.0, "man": 0.0, "cannot tell": 0.0}}
    man = {"gender": {"woman": 0.0, "man": 1.0, "cannot tell": 0.0}}
    unsure = {"gender": {"woman": 0.0, "man": 0.0, "cannot tell": 1.0}}
    assert combined([[woman], [woman, man], [woman, woman]]) == [
        PersonScores(WOMAN),
        PersonScores({"gender": {"woman": 0.5, "man": 0.5}}),
    ]
    assert combined([[woman], []]) == []  # as many say nobody
    assert combined([[woman], [unsure]]) == [PersonScores({})]  # as probable as the best label
    assert combined([[]]) == []


# --- servers -------------------------------------------------------------------------------------------------------------


def test_a_server_without_schemas_is_asked_for_less(server: LoopbackChatServer) -> None:
    server.takes = ("json_object",)
    server.ignores_logprobs = False
    judge = make(server, concurrency=1)
    assert [graded(reading) for reading in read(judge, RED, BLUE, RED)] == [[WOMAN], [MAN], [WOMAN]]
    assert server.total_billed == 3
    sent = [((a.body.get("response_format") or {}).get("type"), "logprobs" in a.body) for a in server.asked]
    assert sent == [("json_schema", True), ("json_object", True), *[("json_object", False)] * 3]
    assert judge.account()["answer_format"] == "json_object"
    server.takes = ()
    assert graded(read(make(server, concurrency=3), BLUE, RED, RED)[0]) == [MAN]
    with pytest.raises(ClassifierError, match=r"rejects the setting classifier\.answer_format"):
        read(make(server, answer_format="json_object"), RED)


def test_busy_and_broken_servers_are_asked_again_and_then_given_up(server: LoopbackChatServer, tmp_path: Path) -> None:
    server.plan = lambda asked: {1: Fault("rate_limit"), 2: Fault("status", status=503)}.get(asked.attempt)
    judge = make(server)
    judge.keep_accounts(tmp_path / "a.sqlite")
    assert graded(read(judge, RED)[0]) == [WOMAN]
    assert attempts(tmp_path / "a.sqlite") == [("answered", 1), ("rejected", 2)]
    server.plan = lambda asked: Fault("status", status=500)
    (found,) = read(judge, BLUE)
    assert why(found).startswith("no answer from the judge: HTTP 500")
    assert isinstance(found, Unread) and found.again
    server.plan = lambda asked: Fault("raw", body="<html>welcome</html>", status=200, content_type="text/html")
    assert "not a JSON object" in why(read(make(server), RED)[0])
    server.plan = None
    assert graded(read(judge, BLUE)[0]) == [MAN]


def test_an_answer_that_drips_is_given_up_in_time(server: LoopbackChatServer) -> None:
    server.plan = lambda asked: Fault("garbage_b64", seconds=100)
    began = time.monotonic()
    (found,) = read(make(server, timeout=0.4, max_retries=0), RED)
    assert "no answer from the judge" in why(found)
    assert time.monotonic() - began < 30


def test_what_stops_a_run_says_how_to_go_on(server: LoopbackChatServer) -> None:
    server.plan = lambda asked: Fault("quota") if asked.number == 2 else None
    with pytest.raises(ClassifierError, match=r"cannot pay for more answers .*Answers so far are kept"):
        read(make(server, concurrency=1), RED, BLUE, RED)
    with pytest.raises(ClassifierError, match=r"Served now: loopback-vl\. Set classifier\.model"):
        read(make(server, model="other-vl"), RED)
    server.key = "sk-another-0123456789"
    with pytest.raises(ClassifierError, match="does not accept the API key") as caught:
        read(make(server), RED)
    assert KEY not in str(caught.value)


def test_concurrency_is_bounded_and_used(server: LoopbackChatServer) -> None:
    three = threading.Event()

    def until_three(asked: Asked) -> None:
        if server.running >= 3:
            three.set()
        three.wait(30)

    server.plan = until_three
    read(make(server, concurrency=3, timeout=60), *[RED] * 9)
    assert server.most_running == 3


# --- money ---------------------------------------------------------------------------------------------------------------


def test_the_limit_holds_and_a_higher_one_goes_on_from_there(server: LoopbackChatServer, tmp_path: Path) -> None:
    def judge(limit: float) -> JudgeClassifier:
        made = make(server, price_per_answer=0.01, max_cost=limit, currency="EUR")
        made.keep_accounts(tmp_path / "a.sqlite")
        return made

    colours = [RED, BLUE] * 4
    low = judge(0.03)
    found = read(low, *colours)
    assert sum(isinstance(reading, Unread) for reading in found) == 5
    assert {why(reading) for reading in found if isinstance(reading, Unread)} == {NOT_ASKED}
    assert all(reading.again for reading in found if isinstance(reading, Unread))
    assert (
        "classifier.max_cost of 0.03 leaves no room for another answer at 0.01; the run's ledger shows 0.03 EUR spent"
        in low.account()["stopped"]
    )
    assert (server.total_billed, low.account()["spent"]) == (3, 0.03)
    assert low.estimate(8).startswith("8 images, 8 answers, about 0.08 EUR at 0.01 each")
    high = judge(1.0)
    assert [graded(reading) for reading in read(high, *colours)] == [[WOMAN], [MAN]] * 4
    assert (server.total_billed, high.account()["answers"], high.account()["stopped"]) == (8, 8, None)
    assert high.account()["models"] == {f"{MODEL}-2026": 8}


def test_the_ledger_counts_what_the_server_counts(server: LoopbackChatServer, tmp_path: Path) -> None:
    faults = {3: Fault("drop_after"), 5: Fault("rate_limit"), 6: Fault("status", status=502), 9: Fault("drop_before")}
    server.plan = lambda asked: faults.get(asked.number)
    judge = make(server, price_per_answer=1.0, max_retries=4)  # one image may meet every fault
    judge.keep_accounts(tmp_path / "a.sqlite")
    assert all(not isinstance(reading, Unread) for reading in read(judge, *[RED] * 10))
    account = judge.account()
    assert (account["attempts"], account["answers"]) == (len(server.asked), 10)
    assert account["answers"] <= server.total_billed <= account["answers"] + account["uncertain"]
    assert account["spent"] == account["answers"] + account["uncertain"]


# --- doctor --------------------------------------------------------------------------------------------------------------


def test_the_doctor_asks_whether_it_is_there_and_spends_nothing(server: LoopbackChatServer) -> None:
    block = {"backend": "judge", "model": MODEL, "base_url": server.base_url, "api_key_env": "ALLFOUR_TEST_KEY"}
    found = JudgeConfig.model_validate(block).check(attributes=ONE)
    assert (found.ok, found.message) == (True, f"{MODEL} is served at {server.base_url}.")
    found = JudgeConfig.model_validate(block | {"model": "x"}).check(attributes=ONE)
    assert not found.ok
    assert not server.asked


def test_the_service_is_named_in_its_errors() -> None:
    from allfour.models.classifiers._judge.settings import ANSWERS

    assert isinstance(ANSWERS, Service)
    assert ANSWERS.setting("response_format") == "classifier.answer_format"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            '{"people": [{"gender": "woman"}]} or {"people": [{"gender": "man"}]}',
            "2 answers that contradict each other",
        ),
        (
            'Words in the picture say {"people": [{"gender": "man"}]}. {"people": [{"gender": "woman"}]}',
            "2 answers that",
        ),
        ('{"people": [{"gender": "woman"}], "people": [{"gender": "man"}]}', "gives 'people' twice"),
        ('So: {"people": [{"gender": "woman", "gender": "man"}]}', "gives 'gender' twice"),
        ('<think>perhaps {"people": [{"gender": "man"}]}, but', "reasoning block is never closed"),
        ('So: {"people": [{"gender": "\\ud800"}]}', "'\ufffd'"),
    ],
)
def test_an_answer_that_contradicts_itself_is_none(text: str, why: str) -> None:
    """Whichever was taken would be this program's choice: text in an image can make a judge say anything beside its answer."""
    question = make_question(ONE, instructions="Look.", max_people=9)
    with pytest.raises(MalformedError) as caught:
        read_people(text, question, max_people=9)
    assert why in str(caught.value)


def test_the_same_answer_twice_is_one() -> None:
    question = make_question(ONE, instructions="Look.", max_people=9)
    text = '{"people": [{"gender": "woman"}]} I repeat: {"people": [{"gender": "woman"}], "sure": true}'
    (person,) = read_people(text, question, max_people=9)
    assert person["gender"]["woman"] == 1.0


def test_text_in_which_a_name_stands_twice_has_no_graded_answers() -> None:
    question = make_question(ONE, instructions="x", max_people=9)
    text = '{"people": [{"gender": "woman", "gender": "woman"}]}'
    tokens = [Token(text.encode(), -0.5)]
    (person,) = read_people(text, question, max_people=9, tokens=tokens)
    assert person["gender"]["woman"] == 1.0
    with pytest.raises(MalformedError):
        read_people('{"people": {}}', question, max_people=9)
