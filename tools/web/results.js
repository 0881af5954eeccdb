// Results: a common zoom of all pictures, which starts at the subject, windows that scroll together, and clips that play
// together.

element.addEventListener("input", (event) => {
  const results = event.target.closest(".results");
  if (!results || event.target.type !== "range") return;
  const windows = [...results.querySelectorAll(".window")];
  const first = windows[0];
  const before = +results.style.getPropertyValue("--zoom");
  const middle = (start, shown, all) => (start + shown / 2) / all;
  const x = before > 1 ? middle(first.scrollLeft, first.clientWidth, first.scrollWidth) : +results.dataset.x;
  const y = before > 1 ? middle(first.scrollTop, first.clientHeight, first.scrollHeight) : +results.dataset.y;
  results.style.setProperty("--zoom", event.target.value);
  for (const window of windows) {
    window.scrollLeft = x * window.scrollWidth - window.clientWidth / 2;
    window.scrollTop = y * window.scrollHeight - window.clientHeight / 2;
  }
});

element.addEventListener("scroll", (event) => {
  if (!event.target.matches?.(".window")) return;
  for (const window of element.querySelectorAll(".window")) {
    if (window === event.target) continue;
    window.scrollLeft = event.target.scrollLeft;
    window.scrollTop = event.target.scrollTop;
  }
}, true);

function alike(event, follow) {
  if (!event.target.matches?.("video")) return;
  for (const video of element.querySelectorAll("video")) if (video !== event.target) follow(video, event.target);
}

const seek = (video, other) => { if (Math.abs(video.currentTime - other.currentTime) > 0.05) video.currentTime = other.currentTime; };
element.addEventListener("play", (event) => alike(event, (video, other) => { if (video.paused) { seek(video, other); video.play(); } }), true);
element.addEventListener("pause", (event) => alike(event, (video) => video.pause()), true);
element.addEventListener("seeking", (event) => alike(event, (video, other) => { if (video.paused) seek(video, other); }), true);
