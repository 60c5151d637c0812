"""Fingerprints of source code."""

from pathlib import Path

from robench.utils.fingerprints import source_fingerprint


def test_the_source_hash_sees_code_and_nothing_else(tmp_path: Path) -> None:
    texts = {
        "a": '"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 1\n',
        "b": "# comment\ndef f( x ):\n    return x+1\n",
        "c": "def f(x):\n    return x - 1\n",
    }
    hashes = []
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
        hashes.append(source_fingerprint([tmp_path / f"{name}.py"]))
    assert hashes[0] == hashes[1] != hashes[2]
