echo "${missing:?boom}"
