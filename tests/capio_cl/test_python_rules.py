"""Rules given in Python: CapioContext(rules=...) and CapioCLRule, for a running workflow."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from pycapio import CapioCLRule, CapioContext, PyCAPIOException
from pycapio.rules import rules_of
from workflows import Workflow, wait_for_end

# Prints each line of f as it comes.
FOLLOW = """
    print("up", flush=True)
    for line in open("f"):
        print(line, end="", flush=True)
"""

# A step of its own making, with rules; BODY runs inside.
STEP = """
    import sys
    from pycapio import CapioCLRule, CapioContext, PyCAPIOException
    context = CapioContext(capio_dir=DIR, workflow_name=WF, app_name={app!r}, rules=[{rules}],
                           capio_cl_configuration_file=CONFIG, await_server_timeout_seconds=60)
    def body():
        {body}
    try:
        with context:
            body()
    except PyCAPIOException as error:
        import errno
        print(errno.errorcode[error.errno], error)
"""


def step(app: str, rules: str, body: str) -> str:
    lines = body.strip("\n").split("\n")
    return STEP.format(app=app, rules=rules, body="\n        ".join(lines))


STREAMED = 'CapioCLRule("f", "on_close", "no_update", producers=["p"], consumers=["c"])'
WRITE = """
f = open("f", "w", buffering=1)
f.write("one\\n")
print("written", flush=True)
input()
f.write("two\\n")
f.close()
"""


def test_a_workflow_without_a_file_streams_by_rules(capio: Workflow) -> None:
    """The consumer comes first: that it has to wait, it knows by the rule alone."""
    consumer = capio.python(
        step("c", STREAMED, 'print("up", flush=True)\nfor l in open("f"): print(l[:3], flush=True)')
    )
    consumer.expect("up")
    producer = capio.python(step("p", STREAMED, WRITE))
    producer.expect("written")
    consumer.expect("one")
    producer.send()
    consumer.expect("two")
    for process in (producer, consumer):
        process.finish()
    assert (capio.dir / "f").read_text() == "one\ntwo\n"  # without a file everything is kept


def test_a_consumer_that_is_waiting_gets_the_rule(capio: Workflow) -> None:
    """By the file alone it would wait for the end of the producer."""
    capio.config(
        [
            {"name": "producer", "input_stream": [], "output_stream": ["f"]},
            {"name": "consumer", "input_stream": ["f"], "output_stream": []},
        ]
    )
    consumer = capio.step("consumer", FOLLOW, env={"CAPIO_WAIT_WARN": "0.05"})
    consumer.expect("up")
    consumer.expect_error("waiting .*/f to exist")
    rule = 'CapioCLRule("/".join([DIR, "?"]), "on_close", "no_update")'
    producer = capio.python(step("producer", rule, WRITE))
    # A name beats a pattern, but the file has no clause for the name.
    producer.expect("written")
    consumer.expect("one")
    producer.send()
    consumer.expect("two")
    for process in (producer, consumer):
        process.finish()


def test_a_rule_may_bring_another_producer(capio: Workflow) -> None:
    """Whoever waits for the first one then waits for the second as well."""
    capio.pair(["f"], committed="on_close")
    consumer = capio.step("consumer", FOLLOW, env={"CAPIO_WAIT_WARN": "0.05"})
    consumer.expect("up")
    consumer.expect_error("waiting .*: app 'producer' has not started")
    rule = 'CapioCLRule("f", producers=["second"])'
    other = capio.python(step("other", rule, 'print("added", flush=True)\ninput()'))
    other.expect("added")
    consumer.expect_error("waiting .*; app 'second' has not started")
    capio.run("producer", "pass\n")  # ends without making it
    capio.run("second", "open('f', 'w').write('from the second\\n')\n")
    consumer.expect("from the second")
    other.send()
    for process in (other, consumer):
        process.finish()


def test_a_file_that_is_waited_for_may_be_excluded(capio: Workflow) -> None:
    capio.pair(["f"])
    capio.leaves_server = True
    consumer = capio.step(
        "consumer",
        """
        print("up", flush=True)
        try:
            open("f")
        except FileNotFoundError as error:
            print(error.filename)
        """,
        env={"CAPIO_WAIT_WARN": "0.05"},
    )
    consumer.expect("up")
    consumer.expect_error("waiting")
    capio.python(step("other", 'CapioCLRule("f", is_excluded=True)', "pass")).finish()
    consumer.expect("f")
    consumer.finish()


def test_rules_outlive_the_server(capio: Workflow) -> None:
    capio.pair(["g"], committed="on_close")
    holder = capio.step("holder", "print('up', flush=True)\ninput()\n")
    holder.expect("up")
    capio.python(step("other", STREAMED, "pass")).finish()
    killed = capio.server()
    os.kill(killed, signal.SIGKILL)
    assert wait_for_end(killed)
    consumer = capio.step("c", FOLLOW)
    consumer.expect("up")
    producer = capio.step("p", WRITE)
    producer.expect("written")
    consumer.expect("one")
    assert capio.server() != killed
    producer.send()
    consumer.expect("two")
    holder.send()
    for process in (producer, consumer, holder):
        process.finish()
    capio.run("producer", "open('g', 'w').write('x')\n")
    capio.run("consumer", "open('g').read()\n")


def test_the_same_rule_twice_is_harmless(capio: Workflow) -> None:
    first = capio.python(step("p", STREAMED, WRITE))
    first.expect("written")
    # Now f exists and is being written under the rule.
    second = capio.python(step("c", f"{STREAMED}, {STREAMED}", 'print(open("f").readline()[:3])'))
    second.expect("one")
    first.send()
    for process in (first, second):
        process.finish()


@pytest.mark.parametrize(
    "rule, wanted",
    [
        (
            'CapioCLRule("f", "on_close:2", "no_update")',
            'the rule for "f" (name, on_close:2, no_update) contradicts the one that holds in this '
            "workflow (name, on_close:1, no_update); make them the same",
        ),
        (
            'CapioCLRule("f", is_excluded=True)',
            '"f" is in the store already and cannot be excluded any more; add the rule before the '
            "file is written",
        ),
        (
            'CapioCLRule("free*", "on_close")',
            '"free" was made under (no rule, so on_termination, update), which the new rule would '
            'change (the rule for "free*": name, on_close:1, update); add the rule before the file '
            "is written",
        ),
    ],
)
def test_contradicting_what_has_been_acted_upon(capio: Workflow, rule: str, wanted: str) -> None:
    capio.leaves_server = True  # apps that rules name never come
    first = capio.python(step("p", STREAMED, f"open('free', 'w').close()\n{WRITE}"))
    first.expect("written")
    second = capio.python(step("x", rule, 'print("not reached")'))
    assert second.line() == f"EBUSY {wanted}"
    # What is not contradicted can still be added, also for files that are there.
    third = capio.python(
        step("x", 'CapioCLRule("f", consumers=["y"]), CapioCLRule("g", "on_close")', 'print("ok")')
    )
    third.expect("ok")
    first.send()
    for process in (first, second, third):
        process.finish()


@pytest.mark.parametrize("reads", ["os.listdir('d')", "next(os.scandir('d'))"])
def test_contradicting_what_has_been_listed(capio: Workflow, reads: str) -> None:
    """Also by a consumer that is at it still; not if nobody but its producer has looked."""
    capio.leaves_server = True
    rule = 'CapioCLRule("{}", "on_n_files", {!r}, directory_n_file_expected={}, producers=["p"])'
    rules = f"{rule.format('d', 'no_update', 1)}, {rule.format('e', 'no_update', 1)}"
    body = (
        "import os\nfor d in 'de':\n  os.mkdir(d)\n  open(d + '/1', 'w').close()\n  os.listdir(d)"
    )
    producer = capio.python(step("p", rules, body + "\nprint('up', flush=True)\ninput()"))
    producer.expect("up")
    consumer = capio.python(
        step("c", "", f"import os\nkept = {reads}\nprint('up', flush=True)\ninput()")
    )
    consumer.expect("up")
    for other, wanted in [
        (rule.format("d", "no_update", 1), "ok"),
        (
            rule.format("?", "update", 5),
            "ok",  # the exact name holds
        ),
        (rule.format("e", "no_update", 1), "ok"),
    ]:
        capio.python(step("x", other, "print('ok')")).finish().expect(wanted)
    consumer.send()
    producer.send()
    for process in consumer, producer:
        process.finish()


def test_contradicting_a_listing_by_a_pattern(capio: Workflow) -> None:
    capio.leaves_server = True
    rule = 'CapioCLRule("?", "on_n_files", "no_update", directory_n_file_expected={})'
    rules = f"{rule.format(1)}, CapioCLRule('?', producers=['p'])"
    body = "import os\nfor d in 'de':\n  os.mkdir(d)\n  open(d + '/1', 'w').close()"
    producer = capio.python(step("p", rules, body + "\nprint('up', flush=True)\ninput()"))
    producer.expect("up")
    capio.python(step("c", "", "import os\nprint(os.listdir('d'))")).finish().expect("['1']")
    late = 'CapioCLRule("{}", "on_termination", "update")'
    refused = capio.python(step("x", late.format("d"), "print('not reached')")).finish()
    assert refused.stdout == (
        'EBUSY "d" was listed under (the rule for "?": dirname, on_n_files n_files:1, no_update), '
        'which the new rule would change (the rule for "d": name, on_termination, update); add '
        "the rule before anybody lists the directory\n"
    )
    # Nobody has looked into this one.
    capio.python(step("x", late.format("e"), "print('ok')")).finish().expect("ok")
    producer.send()
    producer.finish()


def test_a_file_that_is_gone_binds_nobody(capio: Workflow) -> None:
    """Neither does one that another took the place of."""
    capio.hold()
    body = "import os\nfor n in 'ab':\n  open(n, 'w').close()\nos.remove('a')\nos.rename('b', 'c')"
    capio.python(step("p", "", body)).finish()
    rules = 'CapioCLRule("a", "on_close"), CapioCLRule("b", "on_close")'
    process = capio.python(step("p", rules, 'print("ok")'))
    process.expect("ok")
    process.finish()


@pytest.mark.parametrize(
    "rules, wanted",
    [
        (
            'CapioCLRule("a", "on_clos"), CapioCLRule("b", fire="never")',
            [
                'EINVAL rule "a", committed: found "on_clos"; write "on_close", "on_close:N", '
                '"on_termination", "on_n_files" with "directory_n_file_expected", or "on_file" '
                'with "file_dependencies" (did you mean "on_close"?)',
                'rule "b", fire: found "never"; write "update" (read when committed) or '
                '"no_update" (read while it grows)',
            ],
        ),
        (
            'CapioCLRule("a", "on_file", file_dependencies=["b"]), '
            'CapioCLRule("b", "on_file", file_dependencies=["a"])',
            [
                "EINVAL on_file dependencies form a cycle, so that none of these is ever "
                'committed: "a" -> "b" -> "a"; remove one of the dependencies'
            ],
        ),
    ],
)
def test_wrong_rules(capio: Workflow, rules: str, wanted: list[str]) -> None:
    process = capio.python(step("p", rules, 'print("not reached")'))
    process.expect(*wanted)
    process.finish()


def test_a_cycle_that_only_two_processes_make(capio: Workflow) -> None:
    capio.hold()
    capio.python(step("p", 'CapioCLRule("a", "on_file:b")', "pass")).finish()
    process = capio.python(step("q", 'CapioCLRule("b", "on_file:a")', "pass"))
    assert process.line().startswith("EINVAL on_file dependencies form a cycle")
    process.finish()


def test_many_add_at_once(capio: Workflow) -> None:
    """Every rule of every process holds for all in the end, whoever was faster."""
    capio.leaves_server = True  # apps that rules name never come
    capio.hold()
    rules = ", ".join(
        f'CapioCLRule("{{n}}-{i}", "on_close:{i + 1}", consumers=["c{{n}}"])' for i in range(8)
    )
    adders = [
        capio.python(
            step(
                f"a{n}",
                "",
                f"print('up', flush=True)\ninput()\n"
                f"for rule in [{rules.format(n=n)}]: context.session.add_rules([rule.text])",
            )
        )
        for n in range(4)
    ]
    for adder in adders:
        adder.expect("up")
    for adder in adders:
        adder.send()
    for adder in adders:
        adder.finish()
    body = "for n in range(4):\n  for i in range(8):\n" + (
        "    try: context.session.add_rules([CapioCLRule(f'{n}-{i}', 'on_close:99').text])\n"
        "    except PyCAPIOException as error: print(str(error).partition(' holds ')[2])"
    )
    last = capio.python(step("x", "", body)).finish()
    assert last.stdout == "".join(
        f"in this workflow (name, on_close:{i + 1}, update); make them the same\n"
        for n in range(4)
        for i in range(8)
    )


def test_killed_adders_leave_whole_rules(capio: Workflow) -> None:
    """Killed at any instruction of adding: a rule is there or it is not, those before it are, and
    everybody else goes on."""
    capio.leaves_server = True  # apps that rules name never come
    capio.hold()
    body = """
import os, random, signal
random.seed(20261124)
def rule(child, i, n):
    return CapioCLRule(f"{child}-{i}", f"on_close:{n}", producers=[f"p{i % 5}"]).text
seen = []
for child in range(25):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        for i in range(1000):
            context.session.add_rules([rule(child, i, 7)])
            os.write(writer, b"x")
    os.close(writer)
    for byte in range(random.randrange(1, 12)):
        assert os.read(reader, 1) == b"x"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    rest = 0
    while data := os.read(reader, 4096):
        rest += len(data)
    os.close(reader)
    seen.append(byte + 1 + rest)
for child, count in enumerate(seen):
    there = []
    for i in range(count + 2):
        try:
            context.session.add_rules([rule(child, i, 9)])
            there.append(False)
        except PyCAPIOException as error:
            assert "on_close:7" in str(error), error
            there.append(True)
    # The one in the making may have been linked without our being told.
    assert there in ([True] * count + [False] * 2, [True] * (count + 1) + [False]), (there, count)
print("all whole")
"""
    adder = capio.python(step("adder", "", body))
    adder.expect("all whole")
    adder.finish()


def test_a_cycle_in_the_file_is_an_error_at_load(capio: Workflow) -> None:
    """Exact names and patterns; nothing is started."""
    clauses = [
        {"name": ["a"], "committed": "on_file", "file_deps": ["part/*"]},
        {"name": ["part/*"], "committed": "on_file:a"},
    ]
    capio.config([{"name": "p", "output_stream": ["a", "part/*"], "streaming": clauses}])
    process = capio.run("p", "print('not reached')\n", status=2)
    assert process.stdout == ""
    assert process.stderr == (
        f"pycapio: {capio.config_file}: line 1, /IO_Graph/0/streaming/0/name/0: on_file "
        "dependencies form a cycle, so that none of these is ever committed: "
        '"a" -> "part/*" -> "a"; remove one of the dependencies\n'
    )
    assert capio.servers() == []


def test_declared_consumers_are_waited_for(capio: Workflow) -> None:
    """As with a CAPIO-CL file: the store stays until they have come, or CAPIO_LINGER is over."""
    capio.python(step("p", STREAMED, 'open("f", "w").write("kept")')).finish()
    server = capio.server()
    consumer = capio.python(step("c", STREAMED, 'print(open("f").read())'))
    consumer.expect("kept")
    consumer.finish()
    assert wait_for_end(server)


def test_permanent_by_a_rule_that_comes_late(capio: Workflow) -> None:
    """pycapio_init keeps only what is permanent."""
    process = capio.python(
        """
        from pycapio import *
        pycapio_init(DIR, "p", WF, await_server_timeout_seconds=60)
        for name in ("kept", "dropped"):
            fd = pycapio_open(name, os.O_CREAT | os.O_WRONLY)
            os.write(fd, b"x")
            from pycapio._pycapio import file_close
            from pycapio.descriptors import take
            with take(fd) as handle:
                file_close(handle, 0, 0)

        @CapioCLRule("ke*", is_permanent=True)
        def function(): pass

        pycapio_teardown(teardown_server=True)
        """.replace(
            "from pycapio import *",
            "import os\n        from pycapio import *\n        from pycapio import CapioCLRule",
        )
    )
    process.finish()
    assert (capio.dir / "kept").read_text() == "x"
    assert not (capio.dir / "dropped").exists()


def test_decorating_under_the_launcher_adds_at_once(capio: Workflow) -> None:
    consumer = capio.step(
        "c",
        """
        from pycapio import CapioCLRule

        @CapioCLRule("f", "on_close", "no_update", producers=["p"])
        def read():
            print("up", flush=True)
            for line in open("f"):
                print(line, end="", flush=True)

        read()
        """,
    )
    consumer.expect("up")
    producer = capio.step("p", WRITE)
    producer.expect("written")
    consumer.expect("one")
    producer.send()
    consumer.expect("two")
    for process in (producer, consumer):
        process.finish()


# ---- the decorator ----------------------------------------------------------------------------


def plain(context: CapioContext) -> Callable[[], Any]:
    def function() -> None:
        open("f", "w").close()

    return function


def generator(context: CapioContext) -> Callable[[], Any]:
    def function() -> Any:
        open("f", "w").close()
        yield

    return function


def coroutine(context: CapioContext) -> Callable[[], Any]:
    async def function() -> None:
        open("f", "w").close()

    return function


def async_generator(context: CapioContext) -> Callable[[], Any]:
    async def function() -> Any:
        open("f", "w").close()
        yield

    return function


def run(result: Any) -> None:
    if hasattr(result, "__anext__"):
        result = result.__anext__()
    if hasattr(result, "__next__"):
        list(result)
    elif result is not None:
        try:
            result.send(None)
        except (StopIteration, StopAsyncIteration):
            pass


@pytest.mark.parametrize("order", ["above", "below", "both"])
@pytest.mark.parametrize("make", [plain, generator, coroutine, async_generator])
def test_above_and_below(
    capio: Workflow, monkeypatch: pytest.MonkeyPatch, make: Any, order: str
) -> None:
    """The file is committed by its close, as the rule says; without it, by the end of the app."""
    monkeypatch.chdir(capio.dir)
    context = capio.context("p")
    rule = CapioCLRule("f", "on_close", consumers=["c"])
    other = CapioCLRule("g", "on_close")
    function = make(context)
    if order == "above":
        function = rule(context(function))
    elif order == "below":
        function = context(rule(function))
    else:
        function = rule(context(other(function)))
    assert rule in rules_of(function)
    with context:  # the app does not end with the call
        run(function())
        with pytest.raises(PyCAPIOException, match="on_close:1, update.; make them the same"):
            context.session.add_rules([CapioCLRule("f", "on_termination").text])
        with capio.context("c"):
            assert open("f").read() == ""


def test_methods_and_callables_that_hold_nothing(capio: Workflow) -> None:
    rule = CapioCLRule("f")

    class Class:
        @rule
        @staticmethod
        def static() -> str:
            return "static"

        @staticmethod
        @rule
        def other() -> str:
            return "other"

    assert rules_of(Class.static) == rules_of(Class.other) == [rule]
    assert (Class.static(), Class.other()) == ("static", "other")
    with pytest.raises(TypeError, match="builtin_function_or_method cannot be given rules"):
        rule(len)
    with pytest.raises(TypeError, match="decorates callables, not int"):
        rule(3)  # type: ignore[type-var]


def test_arguments() -> None:
    rule = CapioCLRule("f", close_count=2, committed="on_close", file_dependencies=[])
    assert repr(rule) == (
        "CapioCLRule(path='f', committed='on_close', close_count=2, file_dependencies=[])"
    )
    assert rule == CapioCLRule("f", "on_close", None, 2, file_dependencies=())
    assert rule != CapioCLRule("f", "on_close") and rule != "f"
    assert len({rule, CapioCLRule("f", "on_close", None, 2, file_dependencies=[])}) == 1
    with pytest.raises(ValueError, match="path is empty"):
        CapioCLRule("")
    for wrong in (
        {"committed": 1},
        {"fire": b"update"},
        {"close_count": "2"},
        {"close_count": True},
        {"directory_n_file_expected": 1.0},
        {"is_directory": 1},
        {"producers": "p"},
        {"producers": [1]},
        {"consumers": [b"c"]},
        {"file_dependencies": "f"},
    ):
        with pytest.raises(TypeError, match=f"{next(iter(wrong))} is|item of|PathLike"):
            CapioCLRule("f", **wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        CapioCLRule(b"f")  # type: ignore[arg-type]
    for rules in (rule, ["f"], [None], 3):
        with pytest.raises(TypeError):
            CapioContext(rules=rules)  # type: ignore[arg-type]
    assert errno.EBUSY  # named in the documentation of CapioCLRule
