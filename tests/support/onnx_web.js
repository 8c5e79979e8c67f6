// Predicts a mask with onnxruntime-web in Chromium.
// node onnx_web.js REQUEST.json OUT.json, in a folder with node_modules/{onnxruntime-web,playwright-core}
// REQUEST.json: {folder, encoder, decoder, image: [H, W, values], box: [x0, y0, x1, y1]} · OUT.json: positions of the pixels
const fs = require("fs"), http = require("http"), path = require("path");
const modules = path.join(process.cwd(), "node_modules");
const { chromium } = require(path.join(modules, "playwright-core"));

const request = JSON.parse(fs.readFileSync(process.argv[2]));
const types = { ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".html": "text/html" };

// Serves the runtime, the ONNX files and an empty page on this machine alone.
const server = http.createServer((asked, reply) => {
  const name = path.basename(asked.url.split("?")[0]);
  const file = [path.join(modules, "onnxruntime-web", "dist", name), path.join(request.folder, name)].find((one) => name && fs.existsSync(one));
  reply.writeHead(file || !name ? 200 : 404, { "Content-Type": types[path.extname(name)] || (name ? "application/octet-stream" : "text/html") });
  reply.end(file ? fs.readFileSync(file) : "");
});

async function predict({ encoder, decoder, image, box }) {
  ort.env.wasm.numThreads = 1;
  const [height, width, values] = image;
  const tensor = (data, shape) => new ort.Tensor("float32", Float32Array.from(data), shape);
  const embed = await ort.InferenceSession.create(encoder), decode = await ort.InferenceSession.create(decoder);
  const { image_embeddings } = await embed.run({ input_image: tensor(values, [height, width, 3]) });
  const scale = 1024 / Math.max(height, width);
  const { masks } = await decode.run({
    image_embeddings,
    point_coords: tensor(box.map((value) => value * scale), [1, 2, 2]),
    point_labels: tensor([2, 3], [1, 2]),
    mask_input: tensor(new Array(256 * 256).fill(0), [1, 1, 256, 256]),
    has_mask_input: tensor([0], [1]),
    orig_im_size: tensor([height, width], [2]),
  });
  return Array.from(masks.data.keys()).filter((place) => masks.data[place] > 0);
}

server.listen(0, "127.0.0.1", async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox"] });
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    await page.addScriptTag({ url: "/ort.wasm.min.js" });
    fs.writeFileSync(process.argv[3], JSON.stringify(await page.evaluate(predict, request)));
  } finally {
    await browser.close();
    server.close();
  }
});
