/* Plain text as a small PDF: A4, Helvetica, wrapped lines, page breaks, the same header and footer on each page.
   No pictures, no other fonts: letters outside Windows-1252 are named to the caller, not dropped in silence. */

const [PAGE_WIDTH, PAGE_HEIGHT, MARGIN, SIZE, LEADING] = [595, 842, 64, 11, 16];
/* Adobe's metrics of Helvetica, thousandths of the size, for the letters 32 to 126. */
const WIDTHS = (
  "278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 278 " +
  "278 584 584 584 556 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778 667 778 722 667 611 722 " +
  "667 944 667 667 611 278 278 278 469 556 333 556 556 500 556 556 278 556 556 222 222 500 222 833 556 556 556 " +
  "556 333 500 278 556 500 722 500 500 500 334 260 334 584"
).split(" ").map(Number);
const WIDEST = 1000;
/* What Windows-1252 has between 128 and 159; the rest of it is Latin-1. */
const SPECIAL = "€\0‚ƒ„…†‡ˆ‰Š‹Œ\0Ž\0\0‘’“”•–—˜™š›œ\0žŸ";

function code(letter) {
  const point = letter.codePointAt(0);
  if ((point >= 32 && point < 127) || (point >= 160 && point < 256)) return point;
  const at = point > 255 ? SPECIAL.indexOf(letter) : -1;
  return at >= 0 ? 128 + at : -1;
}

/* The text in Windows-1252, one character a byte, and the letters that it has not, which became "?". */
export function encoded(text) {
  const missing = new Set();
  const bytes = Array.from(text.normalize("NFC").replace(/\t/g, "    "), (letter) => {
    if (letter === "\n") return letter;
    const point = code(letter);
    if (point < 0) missing.add(letter);
    return String.fromCharCode(point < 0 ? 63 : point);
  }).join("");
  return { bytes, missing: [...missing] };
}

function breadth(bytes) {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 1) sum += WIDTHS[bytes.charCodeAt(at) - 32] ?? WIDEST;
  return (sum * SIZE) / 1000;
}

/* One paragraph to lines that fit; a word that is wider than a line is cut. */
function wrapped(paragraph, width) {
  const lines = [];
  let line = "";
  for (const word of paragraph.split(" ")) {
    const longer = line ? `${line} ${word}` : word;
    if (breadth(longer) <= width) {
      line = longer;
      continue;
    }
    if (line) lines.push(line);
    line = word;
    while (breadth(line) > width) {
      let end = line.length - 1;
      while (breadth(line.slice(0, end)) > width) end -= 1;
      lines.push(line.slice(0, end));
      line = line.slice(end);
    }
  }
  return [...lines, line];
}

const show = (bytes) => `(${bytes.replace(/[\\()]/g, "\\$&")}) Tj`;

function content(lines, head, foot) {
  const top = PAGE_HEIGHT - MARGIN;
  const rule = `0.6 w ${MARGIN} ${top + 2} m ${PAGE_WIDTH - MARGIN} ${top + 2} l S`;
  const body = lines.map((line) => `${show(line)} T*`).join("\n");
  return [
    `BT /F2 ${SIZE} Tf ${MARGIN} ${top + 10} Td ${show(head)} ET`, rule,
    `BT /F1 ${SIZE} Tf ${LEADING} TL ${MARGIN} ${top - 24} Td`, body, "ET",
    `BT /F1 8 Tf ${MARGIN} ${MARGIN - 24} Td ${show(foot)} ET`,
  ].join("\n");
}

/* Numbered objects to a file with its table of their places. */
function file(objects, info) {
  let out = "%PDF-1.4\n%\xe2\xe3\xcf\xd3\n";
  const places = objects.map((object, at) => {
    const place = out.length;
    out += `${at + 1} 0 obj\n${object}\nendobj\n`;
    return `${String(place).padStart(10, "0")} 00000 n \n`;
  });
  const table = out.length;
  out += `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${places.join("")}`;
  out += `trailer\n<< /Size ${objects.length + 1} /Root 1 0 R /Info ${info} 0 R >>\nstartxref\n${table}\n%%EOF\n`;
  return Uint8Array.from(out, (letter) => letter.charCodeAt(0));
}

/* `text` as the bytes of a PDF with `head` on each page, and `foot` before the page's number. */
export function pdfOf(text, head, foot) {
  const each = Math.floor((PAGE_HEIGHT - 2 * MARGIN - 24) / LEADING);
  const lines = encoded(text).bytes.split("\n").flatMap((line) => wrapped(line, PAGE_WIDTH - 2 * MARGIN));
  const pages = [];
  for (let at = 0; at < Math.max(1, lines.length); at += each) pages.push(lines.slice(at, at + each));
  const font = (name) => `<< /Type /Font /Subtype /Type1 /BaseFont /${name} /Encoding /WinAnsiEncoding >>`;
  const first = 6;
  const kids = pages.map((_, at) => `${first + 2 * at} 0 R`).join(" ");
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R /Lang (en) >>",
    `<< /Type /Pages /Count ${pages.length} /Kids [${kids}] /MediaBox [0 0 ${PAGE_WIDTH} ${PAGE_HEIGHT}]` +
      " /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> >>",
    font("Helvetica"), font("Helvetica-Bold"),
    `<< /Title (${head.replace(/[\\()]/g, "\\$&")}) /Producer (r2gengpt) >>`,
  ];
  pages.forEach((page, at) => {
    const number = `${foot}   Page ${at + 1} of ${pages.length}`;
    const stream = content(page, encoded(head).bytes, encoded(number).bytes);
    objects.push(`<< /Type /Page /Parent 2 0 R /Contents ${first + 2 * at + 1} 0 R >>`);
    objects.push(`<< /Length ${stream.length} >>\nstream\n${stream}\nendstream`);
  });
  return file(objects, 5);
}
