// llama.cpp's speed through npm's prebuilt node-llama-cpp, for machines without llama-bench.
//
//     node peer_node.mjs MODEL [--package DIR] [--gpu false|vulkan] [--threads N] [--prompt N] [--gen N] [--repeat N]
//
// DIR is the folder whose node_modules holds node-llama-cpp (default: the current one). Prints one JSON object:
// {peer, version, llama_cpp, device, threads, prompt_tokens, prefill_tokens_per_s: [..], gen_tokens, decode_tokens_per_s: [..]},
// one number a repeat, after one unmeasured warm-up. Decoding is greedy and starts after one token, as
// llama-bench's does. Nothing is downloaded or built: without a prebuilt binary it fails.

import {createRequire} from "node:module";
import {readFileSync} from "node:fs";
import path from "node:path";
import {parseArgs} from "node:util";
import {pathToFileURL} from "node:url";

const {values: options, positionals} = parseArgs({
    allowPositionals: true,
    options: {
        package: {type: "string", default: "."},
        gpu: {type: "string", default: "false"},
        threads: {type: "string", default: "2"},
        prompt: {type: "string", default: "128"},
        gen: {type: "string", default: "64"},
        repeat: {type: "string", default: "1"}
    }
});
const count = (name) => Number.parseInt(options[name], 10);
const [modelPath] = positionals;
const [threads, promptTokens, genTokens, repeats] = ["threads", "prompt", "gen", "repeat"].map(count);
const gpu = options.gpu === "false" ? false : options.gpu;

const folder = path.resolve(options.package);
const entry = createRequire(path.join(folder, "package.json")).resolve("node-llama-cpp");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(entry));

const llama = await getLlama({
    gpu,
    build: "never",
    usePrebuiltBinaries: true,
    skipDownload: true,
    progressLogs: false,
    maxThreads: threads,
    logLevel: LlamaLogLevel.error
});
const model = await llama.loadModel({
    modelPath: path.resolve(modelPath),
    gpuLayers: gpu ? "max" : 0,
    ignoreMemorySafetyChecks: true
});
const context = await model.createContext({
    contextSize: promptTokens + genTokens + 8,
    batchSize: Math.max(512, promptTokens),
    threads: {ideal: threads, min: threads},
    ignoreMemorySafetyChecks: true
});
const sequence = context.getSequence();
const prompt = Array.from({length: promptTokens}, (_, i) => 1000 + ((i * 7919) % 20000));

/** Tokens a second of `work`, which handles `tokens` of them. */
async function speed(tokens, work) {
    await sequence.clearHistory();
    const begin = process.hrtime.bigint();
    await work();
    return (tokens * 1e9) / Number(process.hrtime.bigint() - begin);
}

const prefill = () => sequence.evaluateWithoutGeneratingNewTokens(prompt);

async function decode() {
    let left = genTokens;
    for await (const token of sequence.evaluate([prompt[0]], {temperature: 0, yieldEogToken: true})) {
        left -= 1;
        if (left === 0) return;
    }
    throw new Error(`stopped ${left} tokens early`);
}

const prefillSpeeds = [];
const decodeSpeeds = [];
for (let i = 0; i <= repeats; i++) {
    const speeds = [await speed(promptTokens, prefill), await speed(genTokens, decode)];
    if (i === 0) continue;
    prefillSpeeds.push(speeds[0]);
    decodeSpeeds.push(speeds[1]);
}

const packageFile = path.join(path.dirname(entry), "..", "package.json");
console.log(JSON.stringify({
    peer: "node-llama-cpp",
    version: JSON.parse(readFileSync(packageFile, "utf8")).version,
    llama_cpp: llama.llamaCppRelease.release,
    device: gpu ? (await llama.getGpuDeviceNames()).join(", ") : "CPU",
    threads,
    prompt_tokens: promptTokens,
    prefill_tokens_per_s: prefillSpeeds,
    gen_tokens: genTokens,
    decode_tokens_per_s: decodeSpeeds
}));
process.exit(0);
