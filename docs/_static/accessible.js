// What the theme leaves out for keyboards and screen readers.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("p.caption[role=heading]").forEach((caption) => caption.setAttribute("aria-level", "2"));
  document.querySelector("aside.sidebar-drawer")?.setAttribute("aria-label", "Pages");
  document.querySelector("aside.toc-drawer")?.setAttribute("aria-label", "On this page");
  document.querySelectorAll("div.highlight pre, div.table-wrapper").forEach((part) => {
    // what scrolls must be reached with the keyboard
    const scrolls = () => (part.scrollWidth > part.clientWidth ? (part.tabIndex = 0) : part.removeAttribute("tabindex"));
    new ResizeObserver(scrolls).observe(part);
  });
});
