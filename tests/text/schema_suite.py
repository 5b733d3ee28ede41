#!/usr/bin/env python3
"""The JSON Schema Test Suite decides which documents a schema's grammar accepts.

  schema_suite.py ACCEPTS [quick]

The suite is in the source package of PyPI's jsonschema, which tests/run puts into json-schema-suite of the Python
environment. ACCEPTS is the program of accepts.c. quick: the required tests of 2020-12.
Every schema of drafts 7, 2019-09 and 2020-12 that is not refused: no invalid instance may be accepted, in any order
of its keys and any spacing; every valid one must be, in one order of its keys and all spacings. Instances that
json_schema.h leaves out by their form are listed in FORMS; groups that read a keyword otherwise than we do, in
CHOICES. Exit status 77: no suite here.
"""
import collections
import glob
import itertools
import json
import os
import subprocess
import sys
import tarfile

DRAFTS = {"draft7": 7, "draft2019-09": 2019, "draft2020-12": 2020}

# (file, part of the group's description): the suite says what we decided otherwise.
CHOICES = [
    ("format.json", ""),            # format is an annotation there; here it holds (optional/format decides)
    ("vocabulary.json", "no validation"),  # a metaschema of one's own that turns keywords off
    ("optional/content.json", ""),  # contentMediaType and contentEncoding are annotations here
]
# (file, part of the test's description): valid instances whose form is outside of what is written.
FORMS = [
    ("optional/bignum.json", "a bignum"),
    ("optional/bignum.json", "a negative bignum"),
    ("optional/float-overflow.json", "overflow"),
    ("optional/format/date-time.json", "leap second"),
    ("optional/format/date-time.json", "case-insensitive"),
    ("optional/format/time.json", "leap second"),
    ("optional/format/time.json", "case-insensitive"),
    ("optional/format/email.json", "a quoted string"),
    ("optional/format/email.json", "address-literal"),
    ("optional/format/hostname.json", "punycoded"),
    ("optional/format/idn-email.json", ""),     # the international formats in ASCII only
    ("optional/format/idn-hostname.json", ""),
    ("optional/format/iri.json", ""),
    ("optional/format/iri-reference.json", ""),
]


def load(suite):
    """(draft, file, groups), in order."""
    found = sorted(glob.glob(os.path.join(suite, "jsonschema-*.tar.gz")))
    if not found:
        sys.exit(77)
    with tarfile.open(found[-1]) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            parts = member.name.split("/")
            if len(parts) > 4 and parts[1:3] == ["json", "tests"] and parts[3] in DRAFTS and parts[-1].endswith(".json"):
                text = tar.extractfile(member).read().decode()
                yield parts[3], "/".join(parts[4:]), json.loads(text)


def orders(value, most=24):
    """The value with the keys of its objects in every order, up to some number."""
    if isinstance(value, dict):
        items = [[(k, w) for w in orders(v, most)] for k, v in value.items()]
        found = []
        for order in itertools.permutations(range(len(items))):
            for choice in itertools.product(*(items[i] for i in order)):
                found.append(dict(choice))
                if len(found) >= most:
                    return found
        return found
    if isinstance(value, list):
        return [list(c) for c in itertools.islice(itertools.product(*(orders(v, most) for v in value)), most)]
    return [value]


SPACINGS = [dict(separators=(",", ":")), dict(), dict(indent=2), dict(indent="\t")]


class Asker:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the program ended over {request}")
        return json.loads(line)


def listed(table, file, text):
    return any(file == f and part in text for f, part in table)


def reason_of(error):
    path, _, rest = error.partition(": ")
    return path.split(".")[-1].split("]")[-1] + ": " + rest if path.startswith("$") else error


def run_group(asker, draft, file, group, count, refused, failures):
    schema = json.dumps(group["schema"], ensure_ascii=False)
    docs, owner = [], []
    for number, test in enumerate(group["tests"]):
        for order in orders(test["data"]):
            for spacing in SPACINGS:
                docs.append(json.dumps(order, ensure_ascii=False, **spacing))
                owner.append((number, json.dumps(order), json.dumps(spacing)))
    answer = asker.ask(schema=schema, draft=DRAFTS[draft], docs=docs)
    count["schemas"] += 1
    if "error" in answer:
        count["refused"] += 1
        refused[reason_of(answer["error"])] += 1
        return
    for number, test in enumerate(group["tests"]):
        by_order = collections.defaultdict(list)
        for (n, order, _), yes in zip(owner, answer["accepts"]):
            if n == number:
                by_order[order].append(yes)
        where = f"{draft}/{file}: {group['description']}: {test['description']}: {json.dumps(test['data'])[:100]}"
        if test["valid"]:
            count["valid"] += 1
            good = any(all(v) for v in by_order.values())
            count["valid accepted"] += good
            if not good and listed(FORMS, file, test["description"]):
                count["form"] += 1
            elif not good and listed(CHOICES, file, group["description"]):
                count["choice"] += 1
            elif not good:
                failures.append("valid and not accepted: " + where)
        else:
            bad = any(any(v) for v in by_order.values())
            count["invalid"] += 1
            count["invalid accepted"] += bad
            if bad and listed(CHOICES, file, group["description"]):
                count["choice"] += 1
            elif bad:
                failures.append("invalid and accepted: " + where)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    quick = len(sys.argv) > 2
    asker, tables, refused, failures = Asker(sys.argv[1]), {}, collections.Counter(), []
    for draft, file, groups in load(os.path.join(sys.prefix, "json-schema-suite")):
        if quick and (draft != "draft2020-12" or file.startswith("optional")):
            continue
        kind = "format" if file.startswith("optional/format") else "optional" if file.startswith("optional") else "required"
        count = tables.setdefault((draft, kind), collections.Counter())
        for group in groups:
            run_group(asker, draft, file, group, count, refused, failures)
    columns = ["schemas", "refused", "valid", "valid accepted", "form", "choice", "invalid", "invalid accepted"]
    print(f"{'':24}" + "".join(f"{c:>18}" for c in columns))
    for (draft, kind), count in tables.items():
        print(f"{draft + ' ' + kind:24}" + "".join(f"{count[c]:>18}" for c in columns))
    print("\nrefused:")
    for reason, n in refused.most_common():
        print(f"{n:6} {reason}")
    for failure in failures:
        print(failure)
    sys.exit(1 if failures else 0)


main()
