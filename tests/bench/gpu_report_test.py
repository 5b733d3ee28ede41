#!/usr/bin/env python3
"""gpu_report.py makes the JSON that it promises, on the C twins. gpu_report_test.py BUILD [unittest arguments]"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "api"))
import tiny_gguf  # noqa: E402

BUILD = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build"
NUMBER = (int, float)
FIELDS = {"date": str, "machine": str, "kernel": str, "version": str, "device": str, "driver": str, "software": bool,
          "plan": list, "tests": list, "bench": list, "kernels": list}
SPEEDS = {"device": str, "driver": str, "prompt_tokens": int, "prefill_tokens_per_s": NUMBER, "gen_tokens": int,
          "decode_tokens_per_s": NUMBER, "parallel": int, "ttft_ms": NUMBER, "load_ms": NUMBER, "peak_bytes": int}
KERNEL = {"kernel": str, "k": int, "rows": int, "gmac_per_s": NUMBER, "time_vs_q4_0": NUMBER}
RESULTS = """<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="(empty)" tests="3">
	<testcase name="golden_f32" classname="golden_f32" time="1.5" status="run">
		<system-out>device a &amp; b
5 passed, 0 failed
</system-out>
	</testcase>
	<testcase name="check_kernels" classname="check_kernels" time="0.25" status="fail">
		<failure message="Failed"/>
		<system-out></system-out>
	</testcase>
	<testcase name="x" classname="x" time="0" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase>
</testsuite>
"""


class Report(unittest.TestCase):
    def setUp(self):
        files = tempfile.TemporaryDirectory(prefix="hearth-report-test-")
        self.addCleanup(files.cleanup)
        self.dir = files.name

    def report(self, *flags, status=0, device="ref"):
        env = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_")}
        env["HEARTH_TEST_DEVICE"] = device
        got = subprocess.run([sys.executable, HERE + "/gpu_report.py", BUILD, "--brief", "--output",
                              self.dir + "/out.json", *flags], env=env, capture_output=True, text=True, check=False)
        self.assertEqual(got.returncode, status, got.stderr)
        if status:
            return got
        with open(self.dir + "/out.json") as f:
            made = json.load(f)
        self.assertEqual(made, json.loads(got.stdout), "printed and written are the same")
        self.has(made, FIELDS)
        return made

    def has(self, found, fields):
        for name, kind in fields.items():
            self.assertIn(name, found)
            self.assertIsInstance(found[name], kind, name)
            if kind is NUMBER:
                self.assertGreater(found[name], 0, name)

    def test_with_a_model(self):
        tiny_gguf.write(self.dir + "/tiny.gguf")
        with open(self.dir + "/ctest.xml", "w") as f:
            f.write(RESULTS)
        made = self.report("--model", self.dir + "/tiny.gguf", "--tests", self.dir + "/ctest.xml")
        self.assertEqual((made["model"], made["device"], made["software"]), ("tiny.gguf", "ref", True))
        self.assertEqual([(b["prompt_tokens"], b["parallel"]) for b in made["bench"]], [(16, 1), (16, 4)])
        for b in made["bench"]:
            self.has(b, SPEEDS)
            self.assertEqual((b["device"], b["gen_tokens"]), ("ref", 8))
        if made["perplexity"] is not None: # the text is Debian's
            self.has(made["perplexity"], {"perplexity": NUMBER, "tokens": int})
        for k in made["kernels"]:
            self.has(k, KERNEL)
        self.assertEqual({k["k"] for k in made["kernels"]}, {576, 2048, 4096})
        self.assertEqual(made["plan"][0], "ref, C twins on the CPU")
        self.assertTrue(any("launches" in line for line in made["plan"]))
        self.assertEqual([(t["name"], t["outcome"], t["seconds"]) for t in made["tests"]],
                         [("golden_f32", "run", 1.5), ("check_kernels", "fail", 0.25), ("x", "notrun", 0)])
        self.assertEqual(made["tests"][0]["output"], ["device a & b", "5 passed, 0 failed"])

    def test_without_a_model(self):
        made = self.report()
        self.assertEqual((made["model"], made["bench"], made["perplexity"], made["tests"]), (None, [], None, []))
        self.assertEqual(made["device"], "ref")

    def test_no_such_device(self):
        got = self.report(status=1, device="no such device anywhere")
        self.assertIn("no such device anywhere", got.stderr)


if __name__ == "__main__":
    unittest.main()
