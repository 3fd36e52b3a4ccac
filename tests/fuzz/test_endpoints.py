"""Replies of an endpoint: any status, headers, framing, compression, JSON and bytes."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from byte_edits import Edit, edited, edits
from endpoint_cases import patient
from fuzzing import Fuzz, few_changes, outcome
from hypothesis import strategies as st
from raw_server import RawServer

from raygrid.spec import AnswerSpec, EndpointSpec, TargetSpec
from raygrid.targets.outputs import to_logits

IMAGES = torch.linspace(-1, 1, 3).view(3, 1, 1, 1).expand(3, 1, 4, 4)
SOUND = '{"answers": [[0.25], [-1.5], [3]]}'
MOST_WAITED = 600 + 61  # seconds in one wait: the longest Retry-After, or the longest backoff
TOKENS = (
    *("1e300", "-1e39", "3e38"),
    *("null", "true", "NaN", "Infinity", "-Infinity", "1e999", "-1e-999", "1" + "0" * 400, "1" * 5000, "0x1", "1_0"),
    *('"0.5"', '"nan"', '"benign"', '"\\ud800"', '"\\u0000"', "[]", "{}", "[[1]]", "[1, 2]", '{"a": 1}', "0", "-0.0"),
    *("[" * 100_000, '{"a":' * 50_000, "[" * 70 + "1" + "]" * 70, "", ",", "1 2", "'1'", "1e5", "5e-324", '[""]'),
)
REPLIES = (
    *('{"answers": [0.1, 0.2, 0.3]}', '{"answers": {"0": [1]}}', '{"answers": "abc"}', "[]", ""),
    *('{"answers": [[1],[2],[3]], "answers": [[1]]}', '{"answers": [[1],[2]]}', '{"answers": [[1,2],[3,4],[5,6]]}'),
    *("<html>\x1b[31m</html>", "null", '{"error": "x"}', '{"Answers": [[1],[2],[3]]}', "\ufeff" + SOUND, "1e999"),
)
STATUSES = (200, 201, 204, 206, 301, 302, 307, 308, 400, 401, 404, 408, 413, 429, 500, 503, 100, 999)
HEADERS = {
    "Content-Type": ("application/json", "text/html; charset=utf-7", "\x1b[31m", "image/png", ""),
    "Content-Length": ("0", "1", "5", "99999999999999", "-1", "abc", "1, 2", "²"),
    "Content-Encoding": ("gzip", "deflate", "br", "zstd", "identity", "gzip, gzip", "x"),
    "Transfer-Encoding": ("chunked", "gzip, chunked", "identity", "x"),
    "Retry-After": (
        "0",
        "1",
        "599",
        "601",
        "-1",
        "²",
        "9" * 400,
        "1.5",
        "inf",
        "abc",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Mon, 99 Foo 99999 99:99:99 GMT",
    ),
    "Location": ("/predict", "http://[", "http://127.0.0.1:1/", "\xff\xfe", "//", "http://a:b/", "javascript:1", "?"),
    "Set-Cookie": ("a=b", "=", "a=b; expires=Mon, 99 Foo 99999 99:99:99 GMT; domain=.", "\xff"),
    "Connection": ("close", "keep-alive", "upgrade"),
    "X-Long": ("x" * 70_000,),
}


@dataclass(frozen=True)
class Reply:
    """A reply of an endpoint, then damaged bytes."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    many: int = 0
    body: str = SOUND
    tokens: Mapping[int, str] = field(default_factory=dict)
    compressed: bool = False
    chunks: str = ""
    announced: bool = True
    body_damage: Sequence[Edit] = ()
    damage: Sequence[Edit] = ()

    def content(self) -> bytes:
        text = self.body
        for place, token in self.tokens.items():  # in place of the numbers
            text = text.replace(("0.25", "-1.5", "3", "[0.25]")[place], token, 1)
        body = edited(text.encode(), self.body_damage)
        body = gzip.compress(body, 1, mtime=0) if self.compressed else body
        headers = dict(self.headers)
        if self.chunks:
            headers["Transfer-Encoding"] = "chunked"
            body = f"{self.chunks.replace('N', f'{len(body):x}')}\r\n".encode() + body + b"\r\n0\r\n\r\n"
        elif self.announced:
            headers.setdefault("Content-Length", str(len(body)))
        lines = [f"HTTP/1.1 {self.status} Reason", *(f"{name}: {value}" for name, value in headers.items())]
        lines += [f"X-{number}: 1" for number in range(self.many)]
        return edited("\r\n".join([*lines, "", ""]).encode("latin-1", errors="replace") + body, self.damage)


REPLY = few_changes(
    Reply,
    2,
    {},
    status=st.sampled_from(STATUSES),
    headers=st.fixed_dictionaries({}, optional={name: st.sampled_from(texts) for name, texts in HEADERS.items()}),
    many=st.just(200),
    body=st.sampled_from(REPLIES),
    tokens=st.dictionaries(st.integers(0, 3), st.sampled_from(TOKENS), min_size=1, max_size=2),
    compressed=st.just(True),
    chunks=st.sampled_from(("N", "N;x=y", "0", "-1", "fffffffff", "zz", "²", "N" * 50)),
    announced=st.just(False),
    body_damage=edits(40),
    damage=edits(200),
)
ANSWERS = st.sampled_from((AnswerSpec(), AnswerSpec(kind="probability")))


def test_a_reply_gives_finite_answers_or_an_error(fuzz: Fuzz, tmp_path: Path) -> None:
    with RawServer() as server:
        declared = EndpointSpec(batch_size=4, requests_per_second=10_000, retries=1, timeout_s=2)
        spec = TargetSpec(
            modality="toy", label="clinic", kind="http", source=server.url, received="png", endpoint=declared
        )
        number = 0

        def check(case: tuple[Reply, AnswerSpec]) -> None:
            nonlocal number
            number += 1
            server.reply = case[0].content()
            endpoint, waits = patient(spec, tmp_path / str(number))

            def ask() -> tuple[Any, Any]:
                rows = endpoint(IMAGES)
                return rows, to_logits("target 'clinic'", rows, case[1], [0])

            found = outcome(ask, "target 'clinic'")
            assert all(seconds <= MOST_WAITED for seconds in waits)
            assert len(waits) <= 2 * declared.retries + 1
            if found is not None:
                rows, logits = found
                assert rows.shape == logits.shape == (3, 1)
                assert np.isfinite(rows).all()
                assert np.isfinite(logits).all()
                again = patient(spec, tmp_path / str(number))[0](IMAGES)  # from the kept answers
                assert json.dumps(again.tolist()) == json.dumps(rows.tolist())

        fuzz(check, st.tuples(REPLY, ANSWERS))
