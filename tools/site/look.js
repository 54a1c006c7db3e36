// Returns the problems of the page in a window of `width` CSS pixels: elements that are cut off or make the page wider
// than the window (tables and code may scroll by themselves), text that is too faint to read, and sidebars that lie over
// the footer at the end of the page.
async (width) => {
  const scrolls = (e) => e && e !== document.body
    && (["auto", "scroll", "hidden"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const overflow = [...document.querySelectorAll(".md-content *")].filter((e) => {
    const box = e.getBoundingClientRect();
    return box.width > 1 && box.right > width + 1 && !scrolls(e);
  }).map((e) => `${e.tagName} ${e.textContent.trim().slice(0, 60)}`);
  if (document.documentElement.scrollWidth > width) overflow.push("the page can be scrolled to the right");

  // The contrast of a text with its background, as WCAG 2 defines it.
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, below) => below.map((c, i) => top[i] * top[3] / 255 + c * (1 - top[3] / 255));
  const background = (e) => over(
    rgba(getComputedStyle(e).backgroundColor), e.parentElement ? background(e.parentElement) : [255, 255, 255]);
  const luminance = (colour) => {
    const [r, g, b] = colour.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (e) => {
    const below = background(e);
    const [light, dark] = [over(rgba(getComputedStyle(e).color), below), below].map(luminance).sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  };
  const texts = ["p", "li", "td", "th", "a:not(.headerlink)", "code", "code span", "h1", "h2"];
  const faint = [...document.querySelectorAll(texts.map((text) => `.md-content ${text}`).join())]
    .filter((e) => e.textContent.trim() && contrast(e) < 3)
    .map((e) => `${e.tagName} ${e.textContent.trim().slice(0, 40)}`);

  // The theme's script shortens the sidebars after a scroll, so this waits until it has.
  const covering = () => [...document.querySelectorAll(".md-footer")].flatMap((footer) =>
    [...document.querySelectorAll(".md-sidebar__scrollwrap")].filter((e) => {
      const box = e.getBoundingClientRect();
      return box.width > 0 && box.right > 0 && box.bottom > footer.getBoundingClientRect().top;
    })).map((e) => e.textContent.trim().slice(0, 40));
  scrollTo({top: document.documentElement.scrollHeight, behavior: "instant"});
  const deadline = performance.now() + 2000;
  do await new Promise(requestAnimationFrame); while (covering().length && performance.now() < deadline);
  const covered = covering();
  scrollTo({top: 0, behavior: "instant"});

  return {
    covered,
    overflow: overflow.slice(0, 10),
    faint: [...new Set(faint)].slice(0, 10),
    scheme: document.body.dataset.mdColorScheme ?? "",
  };
}
