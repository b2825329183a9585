// Bundle the scripts and record what they were made of, so that a test can tell when the build is out of date.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const assets = "../assets";
await build({
  entryPoints: ["src/report.js", "src/notebook.js"],
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  legalComments: "none", // LICENSES.txt has them whole
  outdir: assets,
});
const sources = Object.fromEntries(
  readdirSync("src")
    .sort()
    .map((name) => [name, createHash("sha256").update(readFileSync(`src/${name}`)).digest("hex")]),
);
writeFileSync(`${assets}/build.json`, `${JSON.stringify({ sources }, null, 1)}\n`);
const { version } = JSON.parse(readFileSync("node_modules/twgl.js/package.json", "utf8"));
writeFileSync(`${assets}/LICENSES.txt`, `twgl.js ${version}\n\n${readFileSync("node_modules/twgl.js/LICENSE.md", "utf8").trim()}\n`);
