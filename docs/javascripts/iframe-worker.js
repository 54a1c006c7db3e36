// Make the search work when the site is opened from a folder, where browsers refuse to start a worker: run the worker's
// script in a hidden frame of the page. mkdocs.yml loads this file because the theme would load such a script from
// another host.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.started = new Promise((resolve) => {
        frame.onload = () => {
          const inside = frame.contentWindow;
          inside.postMessage = (data) => this.dispatchEvent(message(data));
          const script = inside.document.createElement("script");
          script.src = url;
          script.onload = () => resolve(inside);
          inside.document.head.append(script);
        };
      });
      document.body.append(frame);
    }

    postMessage(data) {
      this.started.then((inside) => inside.dispatchEvent(message(data)));
    }
  };

  // Copy the data, as for a worker.
  const message = (data) => new MessageEvent("message", {data: structuredClone(data)});
}
