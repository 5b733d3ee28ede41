#!/usr/bin/env python3
"""The command and the daemon together, on the C twins (--device ref) and a tiny model.
hearth_test.py PATH-OF-HEARTH [unittest arguments]; hearthd lies beside it."""
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hearthd  # noqa: E402
import tiny_gguf  # noqa: E402

HEARTH = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/hearth"
SLOW = hearthd.SLOW


class Together(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="hearth-both-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.file = cls.folder + "/Tiny.gguf"
        tiny_gguf.write(cls.file)
        cls.daemon = hearthd.Daemon(HEARTH + "d", "--device", "ref").start()
        cls.addClassCleanup(cls.daemon.stop)

    def hearth(self, *args, stdin=b"", rc=0):
        env = {k: v for k, v in os.environ.items() if not k.startswith("HEARTH_") or k == "HEARTH_TEST_SLOW"}
        env["HEARTH_HOST"] = "unix://" + self.daemon.socket
        got = subprocess.run([HEARTH, *args], input=stdin, capture_output=True, env=env, timeout=120 * SLOW)
        self.assertEqual(got.returncode, rc, f"{args}: {got.stdout!r} {got.stderr!r}\n{self.daemon.log()[-2000:]}")
        return got.stdout.decode(errors="replace"), got.stderr.decode(errors="replace")

    def setUp(self):
        self.hearth("import", "--reference", self.file, "tiny:x")

    def test_import_list_show_copy_remove(self):
        file = self.folder + "/Other.gguf"
        tiny_gguf.write(file, seed=2)
        out, _ = self.hearth("import", file)
        self.assertIn("as 'other'", out)
        self.hearth("cp", "other", "other:y")
        names = [row.split()[0] for row in self.hearth("list")[0].splitlines()[1:]]
        self.assertEqual(set(names) - {"words:only", "filler:latest", "thinker:latest", "kin:latest"}, {"other:y", "other:latest", "tiny:x"})
        self.assertEqual(json.loads(self.hearth("list", "--json")[0])["models"][0].keys() >= {"name", "size", "digest"}, True)
        self.assertRegex(self.hearth("show", "other")[0], r"context length +512")
        self.assertIn("blk.0.attn_q.weight", self.hearth("show", "-v", "other")[0])
        self.hearth("rm", "other", "other:y")
        self.assertNotRegex(self.hearth("list")[0], "other")
        self.assertTrue(os.path.exists(file))

    def test_what_is_not_there_is_4(self):
        for args in (["show"], ["run"], ["rm"], ["stop"], ["bench"], ["tokenize"]):
            self.hearth(*args, "nosuch:x", *(["hi"] if args[0] in ("run", "tokenize") else []), rc=4)
        self.hearth("cp", "nosuch:x", "a", rc=4)

    def test_what_cannot_be_imported_is_1(self):
        bad = self.folder + "/bad.gguf"
        with open(bad, "wb") as f:
            f.write(b"GGUF" + b"\xff" * 100)
        self.assertIn("bad.gguf", self.hearth("import", bad, rc=1)[1])
        self.assertIn("nothere", self.hearth("import", self.folder + "/nothere.gguf", rc=1)[1])

    def typed(self, name, arch, type_):
        """A GGUF file of two keys, which say what it is, and one tensor."""
        keys = [("general.architecture", tiny_gguf.STRING, arch), ("general.type", tiny_gguf.STRING, type_)]
        head = struct.pack("<4sIQQ", b"GGUF", 3, 1, len(keys))
        head += b"".join(tiny_gguf.string(k) + struct.pack("<I", kind) + tiny_gguf.value(kind, v) for k, kind, v in keys)
        head += tiny_gguf.string("blk.0.attn_q.weight.lora_a") + struct.pack("<IQIQ", 1, 32, 0, 0)
        path = self.folder + "/" + name
        with open(path, "wb") as f:
            f.write(head + bytes(-len(head) % 32) + bytes(128))
        return path

    def test_what_is_no_model_by_itself(self):
        for arch, type_, says in (("llama", "adapter", "it is a LoRA adapter: a Modelfile takes it with ADAPTER"),
                                  ("llama", "imatrix", "it is an importance matrix")):
            err = self.hearth("import", self.typed("part.gguf", arch, type_), "part", rc=1)[1]
            self.assertIn("this file is no model by itself (general.type): " + says, err)
        path = self.typed("mmproj-F16.gguf", "clip", "mmproj")
        self.hearth("import", path, "part")  # it may be made part of a model
        self.addCleanup(self.hearth, "rm", "part")
        self.assertNotIn("completion", self.hearth("show", "part")[0])
        for args in (("run", "part", "hi"), ("tokenize", "part", "hi")):
            self.assertIn("this file is no model by itself: it is a projector", self.hearth(*args, rc=1)[1])

    def test_a_folder_is_one_model(self):
        folder = self.folder + "/Whole"
        os.mkdir(folder)
        shutil.copy(self.file, folder + "/Tiny-F32.gguf")
        shutil.copy(self.typed("p.gguf", "clip", "mmproj"), folder + "/mmproj-F16.gguf")
        self.assertIn("as 'whole'", self.hearth("import", folder)[0])
        self.addCleanup(self.hearth, "rm", "whole")
        model = next(m for m in self.daemon.get("/api/tags").json["models"] if m["name"] == "whole:latest")
        self.assertEqual(model["size"] // 1000, sum(os.path.getsize(folder + "/" + f) for f in os.listdir(folder)) // 1000)
        self.assertIn("Tiny-F32.gguf", self.hearth("show", "whole")[0])
        self.assertTrue(self.hearth("run", "whole", "hi", "-o", "num_predict=2", "-o", "ignore_eos=true")[0])
        shutil.copy(self.file, folder + "/Second.gguf")
        self.assertIn("has 2 models: name one of its files", self.hearth("import", folder, rc=1)[1])
        os.mkdir(self.folder + "/nothing")
        self.assertIn("has no model file", self.hearth("import", self.folder + "/nothing", rc=4)[1])

    def test_run_ps_stop(self):
        args = ["run", "tiny:x", "hello", "-o", "temperature=0", "-o", "num_predict=12", "-o", "ignore_eos=true"]
        first, err = self.hearth(*args, "--verbose")
        self.assertEqual(self.hearth(*args)[0], first)
        self.assertRegex(err, r"(?m)^eval count:           12 token\(s\)$")
        self.assertRegex(err, r"(?m)^eval rate:            \d+\.\d\d tokens/s$")
        self.assertIn("cut after 12 tokens", err)
        piped, _ = self.hearth("run", "tiny:x", *args[3:], stdin=b"hello")
        self.assertEqual(piped, first)
        self.assertIn("tiny:x", self.hearth("ps")[0])
        self.hearth("stop", "tiny:x")
        self.assertNotIn("tiny:x", self.hearth("ps")[0])

    def test_a_vocabulary_alone_is_tokenised_but_not_run(self):
        words = self.folder + "/words.gguf"
        tiny_gguf.write(words, vocab_only=True)
        self.hearth("import", words, "words:only")
        self.assertIn("2 tokens", self.hearth("tokenize", "words:only", "ab")[0])
        self.assertIn("weights", self.hearth("run", "words:only", "hi", rc=1)[1])

    def test_tokenize_there_and_back(self):
        text = "caf\u00e9 \U0001f525 <s>"
        tokens = json.loads(self.hearth("tokenize", "tiny:x", text, "--json")[0])["tokens"]
        self.assertEqual(self.hearth("tokenize", "tiny:x", "--decode", *map(str, tokens))[0], text + "\n")

    def test_tokenize_in_colours(self):
        text = "a\x1b[2J\nb\u00e9"
        plain = self.hearth("tokenize", "tiny:x", text)[0]
        self.assertIn("'\\x1b'", plain)
        self.assertNotIn("\x1b", plain)
        shown = self.hearth("tokenize", "tiny:x", text, "--color")[0]
        colours = re.findall("\x1b\\[30;4(.)m", shown)
        count = len(text.encode())
        self.assertEqual(len(colours), 2 * count)  # the text in one, and a row each
        self.assertTrue(all(a != b for a, b in zip(colours[:count], colours[1:count])))
        self.assertNotIn("\x1b[2J", shown)
        self.assertEqual(re.sub("\x1b\\[[0-9;]*m", "", shown).split("\n\n", 1)[1], plain)

    def test_show_says_whose_template_it_is(self):
        file = self.folder + "/kin.gguf"
        tiny_gguf.write(file, template=None)
        self.hearth("import", "--reference", file, "kin")
        self.assertRegex(self.hearth("show", "kin")[0], "template +zephyr's, for the file has none")
        self.assertNotIn("template", self.hearth("show", "tiny:x")[0])
        self.assertIn("<|assistant|>", self.hearth("show", "kin", "--template")[0])

    def test_show_one_part(self):
        self.assertEqual(self.hearth("show", "--template", "tiny:x")[0], tiny_gguf.TEMPLATE + "\n")
        self.assertIn('TEMPLATE ' + tiny_gguf.TEMPLATE, self.hearth("show", "--modelfile", "tiny:x")[0])
        for part in ("--system", "--parameters", "--license"):
            self.assertEqual(self.hearth("show", part, "tiny:x")[0], "")
        self.assertIn("choose one", self.hearth("show", "--system", "--template", "tiny:x", rc=2)[1])

    def test_dry_run_is_what_run_would_ask(self):
        args = ["run", "tiny:x", "hello", "--system", "be <s>"]
        out, _ = self.hearth(*args, "--dry-run")
        prompt, count = out[:-1].rsplit("\n", 1)
        self.assertEqual(prompt, "<s><|system|>be <s></s><|user|>hello</s><|assistant|>")
        rendered = json.loads(self.hearth(*args, "--dry-run", "--json")[0])
        self.assertEqual((rendered["prompt"], "%d tokens" % len(rendered["tokens"])), (prompt, count))
        asked = json.loads(self.hearth(*args, "--json", "-o", "num_predict=1")[0].splitlines()[-1])
        self.assertEqual(asked["prompt_eval_count"], len(rendered["tokens"]))
        self.assertEqual(self.hearth("run", "tiny:x", "--dry-run", stdin=b"hello")[0].split("<|user|>")[1][:5], "hello")

    def test_fill_in(self):
        file = self.folder + "/filler.gguf"
        tiny_gguf.write(file, more=tiny_gguf.FIM)
        self.hearth("import", "--reference", file, "filler")
        out, _ = self.hearth("run", "filler", "a", "--suffix", "b", "--dry-run")
        self.assertEqual(out, "<fim_pre>a<fim_suf>b<fim_mid>\n6 tokens\n")
        self.hearth("run", "filler", "a", "--suffix", "b", "-o", "num_predict=2")
        self.assertIn("does not support insert", self.hearth("run", "tiny:x", "a", "--suffix", "b", rc=1)[1])

    def test_thinking_is_framed_or_hidden(self):
        file = self.folder + "/thinker.gguf"
        tiny_gguf.write(file, template=tiny_gguf.THINKING)
        self.hearth("import", "--reference", file, "thinker")
        args = ["run", "thinker", "hello", "-o", "temperature=0", "-o", "num_predict=8", "-o", "ignore_eos=true"]
        shown = self.hearth(*args, "--think")[0]
        self.assertTrue(shown.startswith("Thinking...\n"), shown)
        self.assertTrue(shown.endswith("\n...done thinking.\n\n"), shown)
        self.assertEqual(self.hearth(*args, "--think", "--hidethinking")[0], "")
        self.assertNotIn("hinking", self.hearth(*args, "--think=false")[0])
        self.assertIn("does not support thinking", self.hearth("run", "tiny:x", "hi", "--think=high", rc=1)[1])
        self.assertIn("low, medium", self.hearth("run", "tiny:x", "hi", "--think=much", rc=2)[1])

    def test_the_key_is_made_once_and_is_the_public_one(self):
        key = self.hearth("key")[0]
        self.assertRegex(key, r"\Assh-ed25519 AAAA[A-Za-z0-9+/]+=*\n\Z")
        with open(self.daemon.home + "/keys/id_ed25519.pub") as f:
            self.assertEqual(f.read().split()[:2], key.split())
        self.assertEqual(self.hearth("key")[0], key)
        self.assertEqual(json.loads(self.hearth("key", "--json")[0]), {"key": key.strip()})

    def test_formats(self):
        schema, gbnf = self.folder + "/schema.json", self.folder + "/digits.gbnf"
        text = json.dumps({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False})
        with open(schema, "w") as f:
            f.write(text)
        with open(gbnf, "w") as f:
            f.write('root ::= [0-9]{3} "-" [0-9]{2}\n')
        args = ["run", "tiny:x", "hello", "-o", "num_predict=60", "--format"]
        self.assertIsInstance(json.loads(self.hearth(*args, "json")[0]), dict)
        for way in text, schema:
            self.assertEqual(set(json.loads(self.hearth(*args, way)[0])), {"a"})
        self.assertRegex(self.hearth(*args, gbnf)[0], r"\A\d{3}-\d\d\n\Z")
        self.assertIn("format.frob", self.hearth(*args, '{"frob": 1}', rc=1)[1])

    def test_formats_that_are_none(self):
        bad = self.folder + "/bad.json"
        with open(bad, "w") as f:
            f.write("{")
        for text, words in (("xml", "neither json nor a schema nor a file"), ("{\"a\":", "not valid JSON"),
                            (bad, "not valid JSON")):
            self.assertIn(words, self.hearth("run", "tiny:x", "hi", "--format", text, rc=2)[1])

    KEYS = {"model", "device", "driver", "prompt_tokens", "prefill_tokens_per_s", "gen_tokens", "decode_tokens_per_s",
            "parallel", "ttft_ms", "load_ms", "peak_bytes"}

    def test_bench_speed(self):
        for parallel in (1, 3):
            out, _ = self.hearth("bench", "tiny:x", "--prompt", "40", "--gen", "8", "--repeat", "2", "--parallel", str(parallel), "--json")
            got = json.loads(out)
            self.assertEqual(set(got), self.KEYS)
            self.assertEqual((got["prompt_tokens"], got["gen_tokens"], got["parallel"]), (40, 8, parallel))
            for key in self.KEYS - {"model", "device", "driver", "parallel"}:
                self.assertGreater(got[key], 0, key)
        self.assertRegex(self.hearth("bench", "tiny:x", "--prompt", "8", "--gen", "4", "--repeat", "1")[0], r"decode: +\d")

    def test_bench_perplexity_is_what_score_says(self):
        text = self.folder + "/text"
        with open(text, "w") as f:
            f.write("The quick brown fox jumps over the lazy dog. " * 6)
        got = json.loads(self.hearth("bench", "tiny:x", "--perplexity", text, "--window", "64", "--json")[0])
        with open(text) as f:
            score = self.daemon.ok("/api/score", {"model": "tiny:x", "content": f.read(), "window": 64})
        windows = len(score["tokens"]) // 64
        scored = [score["logprobs"][w * 64 + i] for w in range(windows) for i in range(33, 64)]
        self.assertEqual(got["tokens"], windows * 64)
        self.assertAlmostEqual(got["perplexity"], math.exp(-sum(scored) / len(scored)), delta=1e-9 * got["perplexity"])
        self.assertIn("less than one window", self.hearth("bench", "tiny:x", "--perplexity", text, "--window", "4096", rc=1)[1])

    def test_version(self):
        self.assertRegex(self.hearth("version")[0], r"^hearth version is \d+\.\d+\.\d+\n$")
        got = json.loads(self.hearth("version", "--json")[0])
        self.assertEqual(got["version"], got["daemon"])


class OfItsOwn(unittest.TestCase):
    """No daemon runs: the command starts the real one."""
    def test_started_used_and_ended(self):
        home = tempfile.mkdtemp(prefix="hearth-own-")
        self.addCleanup(shutil.rmtree, home, True)
        env = {"PATH": "/usr/bin:/bin", "HOME": home, "HEARTH_LISTEN": "off", "HEARTH_DEVICE": "ref"}
        env.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
        tiny_gguf.write(home + "/t.gguf")
        for args in (["import", home + "/t.gguf", "t"], ["run", "t", "a", "-o", "num_predict=2", "-o", "ignore_eos=true"], ["ps"]):
            got = subprocess.run([HEARTH, *args], capture_output=True, env=env, stdin=subprocess.DEVNULL, timeout=60 * SLOW)
            self.assertEqual(got.returncode, 0, got.stderr)
        self.assertIn(b"t:latest", got.stdout)
        with open(home + "/.local/share/hearth/db.lock") as f:
            pid = int(re.match(r"\d+", f.read()).group())
        os.kill(pid, 15)
        subprocess.run(["tail", "--pid", str(pid), "-f", "/dev/null"], timeout=10 * SLOW, check=True)


if __name__ == "__main__":
    unittest.main()
