// A click on a picture shows it as large as the window; Escape or another click closes it.
document.addEventListener("click", (event) => {
  const picture = event.target.closest("article img");
  if (!picture || picture.closest("a, dialog")) return;
  const large = document.createElement("dialog");
  large.className = "large";
  large.append(Object.assign(new Image(), { src: picture.currentSrc || picture.src, alt: picture.alt }));
  large.addEventListener("click", () => large.close());
  large.addEventListener("close", () => large.remove());
  document.body.append(large);
  large.showModal();
});
