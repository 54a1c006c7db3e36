document.querySelectorAll(".filtered").forEach(function (frame) {
  var items = frame.querySelectorAll(".list>li");
  if (items.length < 8) return;
  var label = document.createElement("label");
  var field = document.createElement("input");
  var count = document.createElement("span");
  field.type = "search";
  field.autocomplete = "off";
  field.placeholder = "part of an image, namespace or object";
  count.setAttribute("role", "status");
  label.className = "filter";
  label.append("Filter " + frame.dataset.noun + " ", field, count);
  frame.prepend(label);
  field.addEventListener("input", function () {
    var wanted = field.value.trim().toLowerCase(), shown = 0;
    items.forEach(function (item) {
      var match = item.textContent.toLowerCase().includes(wanted);
      item.hidden = !match;
      if (match) shown += 1;
    });
    count.textContent = wanted ? shown + " of " + items.length : "";
  });
});
