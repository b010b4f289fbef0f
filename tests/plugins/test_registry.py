"""The registry: what counts as a plug-in, listing without running, errors that stop nobody, loading by path."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bench import api
from bench.data.kinds import KINDS
from bench.errors import BenchError
from bench.paths import PACKAGE, plugin_folder
from bench.plugins.reader import SourceReader, attributes_of
from bench.plugins.registry import PluginInfo, Registry, available, load

TOY = '''
"""A toy."""
from __future__ import annotations

from dataclasses import dataclass

from bench.api import Method


@dataclass(frozen=True)
class Settings:
    """Needs its module in sys.modules while it is made."""

    depth: int = 2


class Toy(Method):
    """Fills with a constant.

    More words.
    """

    name = "toy"
    version = 3
    kinds = ["numeric"]
    protocols: tuple[str, ...] = ("inductive", "transductive")
    requires = ("package_that_is_not_there",)
    extra = "paper"
    parameter_sets = {"default": {"value": -1.5}, "literal": {"value": 0}}
    settings = Settings()
'''


def write(folder: Path, name: str, source: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source).lstrip("\n"), encoding="utf-8")
    return path


def read(path: Path) -> list[PluginInfo]:
    return SourceReader().read_files([path], "user", None)


def method_source(name: str, body: str = "", base: str = "Method") -> str:
    return f"from bench.api import {base}\n\n\nclass Mine({base}):\n    name = {name!r}\n    {body or 'version = 1'}\n"


def test_scan_reads_every_literal_attribute(tmp_path: Path) -> None:
    path = write(tmp_path, "toy.py", TOY)
    info = Registry.scan([tmp_path]).method("toy")
    assert info == PluginInfo(
        category="method",
        name="toy",
        class_name="Toy",
        path=path.resolve(),
        origin="user",
        source_hash=hashlib.sha256(path.read_bytes()).hexdigest(),
        summary="Fills with a constant.",
        version=3,
        kinds=("numeric",),
        protocols=("inductive", "transductive"),
        requires=("package_that_is_not_there",),
        extra="paper",
        parameter_sets={"default": {"value": -1.5}, "literal": {"value": 0}},
    )


@pytest.mark.parametrize(
    ("base", "category"),
    [("Method", "method"), ("StackedMethod", "method"), ("Dataset", "dataset"), ("Mechanism", "mechanism")],
)
def test_what_a_plugin_does_not_say_is_the_default_of_the_contract(tmp_path: Path, base: str, category: str) -> None:
    (info,) = read(write(tmp_path, "mine.py", method_source("mine", "summary = 'Mine.'", base)))
    contract = getattr(api, base)
    assert info.category == category
    assert info.stackable == (base == "StackedMethod")
    for attribute in attributes_of(info.category):
        expected = "Mine." if attribute == "summary" else getattr(contract, attribute)
        assert getattr(info, attribute) == expected, attribute
    assert issubclass(load(info), contract)


def test_derivation_is_followed_through_the_file_and_by_the_end_of_the_name(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "many.py",
        """
        import torch.utils.data
        from torch.utils.data import Dataset as TorchDataset
        from elsewhere import PatientStackedMethod
        import bench.api as nouns
        from bench.api import Mechanism

        class Pairs(torch.utils.data.Dataset):
            pass

        class MorePairs(TorchDataset):
            pass

        class Base(Mechanism):
            kinds = ("image",)
            parameters = {"a": 1}

        class Middle(Base):
            parameters = {"a": 2}

        class Leaf(Middle):
            name = "leaf"

        class Guessed(PatientStackedMethod):
            name = "guessed"

        class Dotted(nouns.Method):
            name = "dotted"

        class Unrelated:
            name = "unrelated"
        """,
    )
    infos = {info.name: info for info in read(path)}
    assert set(infos) == {"leaf", "guessed", "dotted"}
    leaf = infos["leaf"]
    assert (leaf.category, leaf.kinds, leaf.parameters) == ("mechanism", ("image",), {"a": 2})
    assert infos["guessed"].stackable
    assert infos["dotted"].category == "method" and not infos["dotted"].stackable
    assert all(info.error is None for info in infos.values())


def test_underscored_files_and_sub_folders_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "toy.py", TOY)
    write(tmp_path, "_draft.py", method_source("draft"))
    write(tmp_path, "deeper/other.py", method_source("other"))
    registry = Registry.scan([tmp_path])
    assert "toy" in registry.methods
    assert not {"draft", "other"} & set(registry.methods)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("kinds = tuple(['numeric'])", "kinds of Mine must be a literal"),
        ("kinds = ('numerical',)", "kinds of Mine must be a tuple of some of numeric"),
        ("version = 1.5", "version of Mine must be a whole number"),
        ("protocols = ()", "protocols of Mine must be a tuple"),
        ("parameter_sets = {'default': 3}", "a dict of named dicts"),
        ("parameter_sets = {'default': {'a': {1, 2}}}", "JSON values"),
        ("name = 'a, b'", "name of Mine must be text without blanks"),
        ("tunable = {'a': ('log', 0.0, 1.0)}", "tunable of Mine must be a dict"),
        ("tunable = {'a': ('uniform', 2, 1)}", "tunable of Mine must be a dict"),
        ("tunable = {'a': ('choice', 1)}", "tunable of Mine must be a dict"),
    ],
)
def test_a_bad_attribute_is_an_error_with_file_and_line(tmp_path: Path, body: str, words: str) -> None:
    path = write(tmp_path, "mine.py", method_source("mine", body))
    (info,) = read(path)
    assert info.error is not None and words in info.error
    assert info.error.startswith(f"{path.resolve()}:6: ")
    with pytest.raises(BenchError, match="must be"):
        load(info)
    assert available(info) == (False, info.error)


def test_a_class_without_a_name_is_an_error_unless_it_is_a_base(tmp_path: Path) -> None:
    source = "from bench.api import Method\n\n\nclass Nameless(Method):\n    version = 2\n"
    (info,) = read(write(tmp_path, "mine.py", source))
    assert (info.name, info.version) == ("Nameless", 2)
    assert info.error is not None and ":4: class Nameless needs a literal name" in info.error
    (named,) = read(write(tmp_path, "other.py", source + "\n\nclass Named(Nameless):\n    name = 'named'\n"))
    assert (named.name, named.version, named.error) == ("named", 2, None)


def test_a_broken_file_stays_listed_and_stops_nobody(tmp_path: Path) -> None:
    write(tmp_path, "toy.py", TOY)
    broken = write(tmp_path, "broken.py", "from bench.api import Dataset\nclass Broken(Dataset):\n    name = = 'x'\n")
    write(tmp_path, "bytes.py", "x = 1").write_bytes(b"x = '\xff'\n")
    registry = Registry.scan([tmp_path])
    assert registry.method("toy").error is None
    info = registry.dataset("broken")
    assert info.error == f"{broken.resolve()}:3: SyntaxError: invalid syntax"
    assert registry.method("bytes").error is not None


def test_a_broken_file_does_not_take_a_name_from_a_sound_one(tmp_path: Path) -> None:
    sound = write(tmp_path / "sound", "first.py", method_source("second"))
    broken = write(tmp_path / "broken", "second.py", "class X(Method:\n")
    registry = Registry.scan([tmp_path / "sound", tmp_path / "broken"])
    assert registry.method("second").path == sound.resolve()
    assert registry.method("second").error is None
    assert registry.method(str(broken.resolve())).error is not None


def test_a_name_taken_twice_names_both_files_and_leaves_others_alone(tmp_path: Path) -> None:
    first = write(tmp_path / "a", "one.py", method_source("same"))
    second = write(tmp_path / "b", "two.py", method_source("same"))
    write(tmp_path / "b", "three.py", method_source("other"))
    write(tmp_path / "b", "four.py", method_source("same", base="Dataset"))
    registry = Registry.scan([tmp_path / "a", tmp_path / "b", tmp_path / "a"])
    error = registry.method("same").error
    assert error is not None and str(first.resolve()) in error and str(second.resolve()) in error
    with pytest.raises(BenchError, match="taken more than once"):
        load(registry.method("same"))
    assert registry.method("other").error is None
    assert registry.dataset("same").error is None


def test_unknown_names_suggest_the_closest(tmp_path: Path) -> None:
    write(tmp_path, "toy.py", TOY)
    write(tmp_path, "data.py", method_source("numbers", base="Dataset"))
    registry = Registry.scan([tmp_path])
    with pytest.raises(BenchError, match="unknown method 'toyy'. Did you mean 'toy'?"):
        registry.method("toyy")
    with pytest.raises(BenchError, match="unknown data set 'number'. Did you mean 'numbers'?"):
        registry.dataset("number")


def test_a_folder_that_is_missing_or_holds_no_plugin_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="does not exist"):
        Registry.scan([tmp_path / "absent"])
    write(tmp_path, "nothing.py", "x = 1\n")
    with pytest.raises(BenchError, match="no plug-in in"):
        Registry.scan([tmp_path])


def test_available_names_the_package_and_the_command(tmp_path: Path) -> None:
    (info,) = read(write(tmp_path, "toy.py", TOY))
    assert available(info) == (False, "needs package_that_is_not_there: pip install 'vsae-bench[paper]'")
    body = "requires = ('absent_a.b', 'json', 'absent_c')"
    (plain,) = read(write(tmp_path, "plain.py", method_source("plain", body)))
    assert available(plain) == (False, "needs absent_a.b, absent_c: pip install absent_a.b absent_c")
    (fine,) = read(write(tmp_path, "fine.py", method_source("fine", "requires = ('json',)")))
    assert available(fine) == (True, "")


def test_load_executes_once_and_dataclasses_work(tmp_path: Path) -> None:
    (info,) = read(write(tmp_path, "toy.py", TOY))
    toy = load(info)
    assert issubclass(toy, api.Method) and toy.__name__ == "Toy"
    assert vars(toy)["settings"].depth == 2
    assert load(info) is toy
    assert sys.modules[toy.__module__].__file__ == str(info.path)


def test_files_of_one_name_in_two_folders_do_not_mix(tmp_path: Path) -> None:
    (first,) = read(write(tmp_path / "a", "same.py", method_source("first")))
    (second,) = read(write(tmp_path / "b", "same.py", method_source("second")))
    assert [load(first).name, load(second).name] == ["first", "second"]
    assert load(first).__module__ != load(second).__module__


def test_load_refuses_a_file_that_changed_and_a_new_scan_takes_it(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.py", method_source("mine", "version = 1"))
    (before,) = read(path)
    assert load(before).version == 1
    path.write_text(method_source("mine", "version = 2"), encoding="utf-8")
    with pytest.raises(BenchError, match="has changed since it was listed"):
        load(before)
    (after,) = read(path)
    assert load(after).version == 2


def test_a_failing_import_names_file_and_line_and_leaves_no_module(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.py", method_source("mine") + "\n\ndef fail():\n    return 1 / 0\n\n\nfail()\n")
    (info,) = read(path)
    assert info.error is None
    modules = set(sys.modules)
    with pytest.raises(BenchError) as caught:
        load(info)
    assert str(caught.value) == f"{path.resolve()}:10: ZeroDivisionError: division by zero"
    assert set(sys.modules) == modules


def test_a_failing_import_says_what_to_install_or_that_files_stand_alone(tmp_path: Path) -> None:
    (needs,) = read(write(tmp_path, "needs.py", f"import package_that_is_not_there\n{TOY.replace('from __f', '# f')}"))
    with pytest.raises(BenchError, match=r":1: ModuleNotFoundError: .*pip install 'vsae-bench\[paper\]'"):
        load(needs)
    write(tmp_path, "sibling_file.py", "x = 1\n")
    (lonely,) = read(write(tmp_path, "lonely.py", "import sibling_file\n" + method_source("lonely")))
    with pytest.raises(BenchError, match="a plug-in is one file and cannot import the files beside it"):
        load(lonely)


def test_load_refuses_what_the_source_did_not_say(tmp_path: Path) -> None:
    changed = method_source("mine") + "\n\nMine.kinds = ('image',)\n"
    (info,) = read(write(tmp_path, "mine.py", changed))
    with pytest.raises(BenchError, match="kinds of Mine is .'image',. when loaded"):
        load(info)
    impostor = """
        from types import SimpleNamespace

        shop = SimpleNamespace(PaymentMethod=object)

        class Card(shop.PaymentMethod):
            name = "card"
        """
    (info,) = read(write(tmp_path, "impostor.py", impostor))
    with pytest.raises(BenchError, match=r"does not derive from bench\.api\.Method"):
        load(info)


def test_another_process_loads_a_plugin_from_json_and_nothing_heavy_is_imported(tmp_path: Path) -> None:
    write(tmp_path, "toy.py", TOY)
    registry = Registry.scan([tmp_path])
    message = json.dumps(registry.method("toy").as_json())
    script = """
        import json, sys
        from bench.plugins.registry import PluginInfo, load
        info = PluginInfo.from_json(json.loads(sys.argv[1]))
        heavy = sorted({"numpy", "torch", "pandas", "sklearn", "matplotlib"} & set(sys.modules))
        print(heavy, load(info).name)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), message]
    result = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[] toy"


def test_every_plugin_of_the_suite_survives_json_and_loads_only_from_the_same_source(tmp_path: Path) -> None:
    for info in Registry.scan().plugins:
        there = PluginInfo.from_json(json.loads(json.dumps(info.as_json())))
        assert json.dumps(there.as_json()) == json.dumps(info.as_json())
        if available(info)[0]:
            assert load(there) is load(info)
    write(tmp_path, "toy.py", TOY)
    info = Registry.scan([tmp_path]).method("toy")
    with pytest.raises(BenchError, match="has changed since it was listed"):
        load(PluginInfo.from_json({**info.as_json(), "source_hash": "0" * 64}))


def test_entry_points_are_read_without_importing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = 'raise RuntimeError("imported")\n'
    write(tmp_path, "lone_module_of_test.py", method_source("lone") + guard)
    write(tmp_path, "package_of_test/__init__.py", guard)
    write(tmp_path, "package_of_test/inner.py", method_source("inner", base="Dataset"))
    write(tmp_path, "package_of_test/_hidden.py", method_source("hidden"))
    write(tmp_path, "toy_plugins-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-plugins\nVersion: 1.0\n")
    write(
        tmp_path,
        "toy_plugins-1.0.dist-info/entry_points.txt",
        "[vsae_bench.plugins]\none = lone_module_of_test\ntwo = package_of_test\nthree = package_of_test.inner\n"
        "four = module_that_is_not_there\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry.scan()
    assert registry.method("lone").origin == registry.dataset("inner").origin == "entry point"
    assert registry.method("lone").error is None and registry.dataset("inner").error is None
    assert "hidden" not in registry.methods
    error = registry.method("four").error
    assert error is not None and "'module_that_is_not_there', which is not installed" in error
    assert not {"lone_module_of_test", "package_of_test"} & set(sys.modules)
    with pytest.raises(BenchError, match="RuntimeError: imported"):
        load(registry.method("lone"))


def test_the_suite_lists_every_file_of_its_folders_without_error() -> None:
    registry = Registry.scan()
    assert [f"{info.name}: {info.error}" for info in registry.plugins if info.origin == "suite" and info.error] == []
    listed = {info.path for info in registry.plugins}
    for folder in ("baselines", "datasets"):
        files = {path.resolve() for path in plugin_folder(folder).glob("*.py") if not path.name.startswith("_")}
        assert files <= listed
    assert {"mcar", "mar", "nmar"} <= set(registry.mechanisms)
    assert {kind for info in registry.plugins for kind in info.kinds} <= set(KINDS)


def test_forty_files_are_read_quickly(tmp_path: Path) -> None:
    step = "    def step_{}(self, a, b):\n        return [a * 2 + b for a in range(b)]\n"
    filler = "".join(step.format(number) for number in range(50))
    for number in range(40):
        write(tmp_path, f"plugin_{number}.py", method_source(f"plugin_{number}") + filler)
    times = []
    for _ in range(3):
        began = time.process_time()
        registry = Registry.scan([tmp_path])
        times.append(time.process_time() - began)
    assert len([name for name in registry.methods if name.startswith("plugin_")]) == 40
    # About 0.03 s on an idle core; the bound leaves room for a busy one and catches an import or a quadratic search.
    assert min(times) < 0.6
