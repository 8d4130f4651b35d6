/** The kinds of picture files that the page takes. */
export const TYPES = ["image/png", "image/jpeg", "image/webp", "image/gif"];
